//! relstore
fn main() {}
