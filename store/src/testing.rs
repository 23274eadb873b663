//! What the tests of this and the other crates share: real servers, started and ended by the test.

pub mod garage;
