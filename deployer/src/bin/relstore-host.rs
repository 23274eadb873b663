//! relstore-host
fn main() {}
