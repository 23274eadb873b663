//! What the tests of this and the other crates share: real servers, started and ended by the test,
//! and backends that fail.

pub mod faulty;
pub mod garage;
