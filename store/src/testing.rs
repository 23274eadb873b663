//! What the tests of this and the other crates share: real servers, started and ended by the test,
//! backends that fail, and what was done to the disk.

pub mod faulty;
pub mod garage;
pub mod release;
pub mod ssh_keygen;
pub mod traced;
pub mod watched;
