//! What the fuzz targets share: the real server and proxy between a client and a strict recorder,
//! and independent judges of what must become of a message.

pub mod answers;
pub mod lane;
pub mod meant;
pub mod requests;
