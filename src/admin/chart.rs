//! The numbers of the last minutes as small lines of SVG.

use std::fmt::Write;

use super::recent::{INTERVAL, Sample};

/// The room of a line, without a unit: the page scales it.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 48.0;

/// A line for each number; of one sample there is none to draw yet.
pub(super) fn charts(samples: &[Sample]) -> Vec<String> {
    let rate = |count: u64| count_of(count) / INTERVAL.as_secs_f64();
    let size = |count: usize| count_of(u64::try_from(count).unwrap_or(u64::MAX));
    let line = |name, unit, of: &dyn Fn(&Sample) -> f64| {
        let values: Vec<f64> = samples.iter().map(of).collect();
        chart(name, unit, &values)
    };
    vec![
        line("Service responses", "/s", &|one| rate(one.by_upstream)),
        line("Sidecar responses", "/s", &|one| rate(one.by_sidecar)),
        line("Upstream failures", "/s", &|one| rate(one.failures)),
        line("In flight", "", &|one| size(one.in_flight)),
        line("Connections", "", &|one| size(one.connections)),
    ]
}

fn chart(name: &str, unit: &str, values: &[f64]) -> String {
    let most = values.iter().copied().fold(0.0, f64::max);
    let now = values.last().copied().unwrap_or_default();
    let mut points = String::new();
    // All of a line that is level lies at the bottom.
    let scale = if most > 0.0 { most } else { 1.0 };
    let steps = count_of(u64::try_from(values.len()).unwrap_or(u64::MAX)) - 1.0;
    let mut x = 0.0;
    for value in values.iter().filter(|_| steps > 0.0) {
        let y = HEIGHT - 1.0 - value / scale * (HEIGHT - 2.0);
        // Writing to a String cannot fail.
        write!(points, "{x:.1},{y:.1} ").unwrap_or_default();
        x += WIDTH / steps;
    }
    let (now, most) = (number(now), number(most));
    format!(
        "<figure><figcaption><span>{name}</span><span>{now}{unit}, most {most}{unit}</span>\
         </figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=none role=img \
         aria-label=\"{name}: {now}{unit} now, most {most}{unit}\">\
         <polyline points=\"{}\"/></svg></figure>",
        points.trim_end()
    )
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 || value >= 10.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// Counts of an interval are far below what a float holds exactly.
fn count_of(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_side_to_side_and_stays_in_its_room() {
        let text = chart("n", "/s", &[0.0, 5.0, 2.5]);
        assert!(
            text.contains("points=\"0.0,47.0 120.0,1.0 240.0,24.0\""),
            "{text}"
        );
        assert!(text.contains("2.5/s, most 5/s"), "{text}");
        for values in [&[][..], &[7.0]] {
            assert!(chart("n", "", values).contains("points=\"\""));
        }
        assert!(chart("n", "", &[0.0, 0.0]).contains("points=\"0.0,47.0 240.0,47.0\""));
        assert_eq!(charts(&[Sample::default(); 3]).len(), 5);
    }
}
