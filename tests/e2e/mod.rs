//! End to end on the real stack: sshd, nginx, PHP-FPM as www-data, MariaDB, the deploy user
//! `deploy`. `make test` starts the stack and sets the variables that [`Site`] reads.

mod build;
mod deploy;
mod faults;
mod kill;
mod refusals;
mod secrets;
mod site;
mod store;
mod switches;

use site::{Fixture, Site};
