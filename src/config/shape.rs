//! What a key takes, by the parser that reads it: for the schema of the file.

use std::ops::RangeInclusive;

use figment::value::Value;

use super::problem::Expected;

/// What a key takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Shape {
    /// The kind of its default, or of the example in the full file: its parser does not say more.
    #[default]
    AsShown,
    /// A text.
    Text,
    /// A text that nobody may see.
    Secret,
    /// A whole number.
    Integer(RangeInclusive<usize>),
    /// A number from 0 to 1.
    Ratio,
    /// A number of bytes, with or without a unit.
    Size {
        range: RangeInclusive<usize>,
        bounds: String,
    },
    /// A time with its unit.
    Time { bounds: String },
    /// A list, or a text that holds one.
    List,
    /// One of these words.
    OneOf(Vec<String>),
    /// A list of tables with these keys, or a text that holds one.
    Tables(Vec<(&'static str, Shape)>),
}

/// Reads a value of a key, and says what it takes. A function alone will do.
pub(super) trait Parser<T> {
    /// What it takes.
    fn shape(&self) -> Shape;

    /// Reads a value, or says what would be right.
    fn parse(self, value: &Value) -> Result<T, Expected>;
}

/// A parser that says what it takes.
pub(super) struct Shaped<F> {
    shape: Shape,
    parse: F,
}

impl Shape {
    /// A parser that takes this.
    pub(super) fn of<F>(self, parse: F) -> Shaped<F> {
        Shaped { shape: self, parse }
    }
}

impl<T, F: FnOnce(&Value) -> Result<T, Expected>> Parser<T> for F {
    fn shape(&self) -> Shape {
        Shape::AsShown
    }

    fn parse(self, value: &Value) -> Result<T, Expected> {
        self(value)
    }
}

impl<T, F: FnOnce(&Value) -> Result<T, Expected>> Parser<T> for Shaped<F> {
    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn parse(self, value: &Value) -> Result<T, Expected> {
        (self.parse)(value)
    }
}
