//! Under which conditions the steps of a build run. A release must not depend on any of them: a
//! build uses the same ones every time, and a check varies them all to see whether that matters.
//! Pure, but for [`copy_in_order`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{BuildError, IoContext};

/// 401 days, 7 hours, 13 minutes and 11 seconds: no field of a date or a time stays the same.
const CLOCK_STEP: i64 = 401 * 86_400 + 7 * 3_600 + 13 * 60 + 11;

/// One thing around a build that its result must not depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The folder in which the build lies.
    Place,
    /// The time of the clock.
    Clock,
    /// The order in which a folder lists its entries.
    Order,
    /// `TZ`.
    TimeZone,
    /// `LANG` and `LC_ALL`.
    Locale,
    /// The file mode mask.
    Umask,
    /// How many processors the steps may use.
    Cpus,
    /// `HOME`.
    Home,
    /// The name of the machine.
    HostName,
    /// The number of user and group.
    User,
}

impl Condition {
    /// All of them, those that matter most often first.
    pub const ALL: [Self; 10] = [
        Self::Place,
        Self::Clock,
        Self::Order,
        Self::TimeZone,
        Self::Locale,
        Self::Umask,
        Self::Cpus,
        Self::Home,
        Self::HostName,
        Self::User,
    ];

    /// Its name in reports and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Place => "path",
            Self::Clock => "time",
            Self::Order => "folder order",
            Self::TimeZone => "time zone",
            Self::Locale => "locale",
            Self::Umask => "umask",
            Self::Cpus => "processors",
            Self::Home => "home folder",
            Self::HostName => "host name",
            Self::User => "user",
        }
    }
}

/// Under which conditions steps run; the default ones are the same for every build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditions {
    /// The file mode mask.
    pub umask: u32,
    /// The value of `LANG` and `LC_ALL`.
    pub locale: String,
    /// The value of `TZ`.
    pub time_zone: String,
    /// The name of the machine, where a sandbox can give it one.
    pub host_name: String,
    /// How many processors the steps may use; `None` for all.
    pub cpus: Option<usize>,
    /// Number of user and group, where a sandbox can give it one.
    pub user: u32,
    /// Path of the folder in which the steps run, relative to a private folder.
    pub place: String,
    /// Path of the folder `HOME`, relative to the same private folder.
    pub home: String,
    /// `None`: files are created in sorted order in an ordinary folder. A seed: in an order
    /// shuffled by it, on a tmpfs, which lists entries by the order of their creation.
    pub order: Option<u64>,
    /// Seconds by which the clock is ahead. Not for steps with network access: to a clock that is
    /// wrong by a year, certificates are not valid.
    pub clock_offset: i64,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            umask: 0o022,
            locale: "C.UTF-8".to_owned(),
            time_zone: "UTC".to_owned(),
            host_name: "relstore".to_owned(),
            cpus: None,
            user: 1000,
            place: "build".to_owned(),
            home: "home".to_owned(),
            order: None,
            clock_offset: 0,
        }
    }
}

impl Conditions {
    /// Returns the n-th variation: 0 is the default, every other one differs from it in
    /// everything; the first three also differ from each other wherever there is a choice.
    #[must_use]
    pub fn variation(n: usize) -> Self {
        let Some(index) = n.checked_sub(1) else {
            return Self::default();
        };
        let choice = |values: [&'static str; 3]| values[index % 3].to_owned();
        let number = u32::try_from(index % 3).unwrap_or_default();
        Self {
            umask: [0o077, 0o002, 0o027][index % 3],
            // Other rules for order, case and numbers.
            locale: choice(["tr_TR.UTF-8", "de_DE.UTF-8", "et_EE.UTF-8"]),
            // The calendar's day is another one than in UTC at almost any time.
            time_zone: choice(["Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu"]),
            host_name: choice(["another-machine", "build-17", "host.example.org"]),
            cpus: Some(1),
            user: 1042 + number,
            place: choice(["a/rather/longer/place", "b", "with space/build"]),
            home: choice(["another/home", "h", "users/someone"]),
            order: Some(n as u64),
            clock_offset: CLOCK_STEP * i64::from(number + 1),
        }
    }

    /// Returns the default conditions but for one, which is that of the n-th variation.
    #[must_use]
    pub fn only(condition: Condition, n: usize) -> Self {
        let (mut conditions, varied) = (Self::default(), Self::variation(n));
        match condition {
            Condition::Place => conditions.place = varied.place,
            Condition::Clock => conditions.clock_offset = varied.clock_offset,
            Condition::Order => conditions.order = varied.order,
            Condition::TimeZone => conditions.time_zone = varied.time_zone,
            Condition::Locale => conditions.locale = varied.locale,
            Condition::Umask => conditions.umask = varied.umask,
            Condition::Cpus => conditions.cpus = varied.cpus,
            Condition::Home => conditions.home = varied.home,
            Condition::HostName => conditions.host_name = varied.host_name,
            Condition::User => conditions.user = varied.user,
        }
        conditions
    }

    /// Returns each condition with its value, for people.
    #[must_use]
    pub fn values(&self) -> BTreeMap<Condition, String> {
        let clock = match self.clock_offset {
            0 => "now".to_owned(),
            seconds => format!("{} days ahead", seconds / 86_400),
        };
        BTreeMap::from([
            (Condition::Place, self.place.clone()),
            (Condition::Clock, clock),
            (
                Condition::Order,
                self.order
                    .map_or("sorted".to_owned(), |seed| format!("shuffled by {seed}")),
            ),
            (Condition::TimeZone, self.time_zone.clone()),
            (Condition::Locale, self.locale.clone()),
            (Condition::Umask, format!("{:03o}", self.umask)),
            (
                Condition::Cpus,
                self.cpus
                    .map_or("all".to_owned(), |count| count.to_string()),
            ),
            (Condition::Home, self.home.clone()),
            (Condition::HostName, self.host_name.clone()),
            (Condition::User, self.user.to_string()),
        ])
    }
}

/// Returns the items in an order that depends on nothing but the seed and their number.
#[must_use]
pub fn shuffled<T>(mut items: Vec<T>, seed: u64) -> Vec<T> {
    let mut state = seed;
    for last in (1..items.len()).rev() {
        let other = next(&mut state) % (last as u64 + 1);
        items.swap(last, usize::try_from(other).unwrap_or_default());
    }
    items
}

/// SplitMix64: small, and any seed is as good as another.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Copies what lies in `from` into the existing folder `to`, creating the entries sorted by path,
/// or shuffled by a seed. Files keep their modes, links their targets; folders get the default mode.
///
/// # Errors
/// [`BuildError::Io`].
pub fn copy_in_order(from: &Path, to: &Path, order: Option<u64>) -> Result<(), BuildError> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in walkdir::WalkDir::new(from).min_depth(1).sort_by_file_name() {
        paths.push(entry.at("read", from)?.into_path());
    }
    if let Some(seed) = order {
        paths = shuffled(paths, seed);
    }
    for path in paths {
        let Ok(relative) = path.strip_prefix(from) else {
            continue;
        };
        let target = to.join(relative);
        let kind = path.symlink_metadata().at("look at", &path)?.file_type();
        let folder = if kind.is_dir() {
            Some(target.as_path())
        } else {
            target.parent()
        };
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).at("create", folder)?;
        }
        if kind.is_symlink() {
            let link = std::fs::read_link(&path).at("read", &path)?;
            std::os::unix::fs::symlink(link, &target).at("write", &target)?;
        } else if kind.is_file() {
            std::fs::copy(&path, &target).at("write", &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn variations_differ_from_the_default_in_everything() {
        let default = Conditions::default().values();
        assert_eq!(default.len(), Condition::ALL.len());
        for n in 1..=3 {
            let varied = Conditions::variation(n).values();
            for condition in Condition::ALL {
                assert_ne!(
                    default[&condition],
                    varied[&condition],
                    "{}",
                    condition.name()
                );
            }
        }
        assert_eq!(Conditions::variation(0), Conditions::default());
        assert_eq!(Conditions::variation(1), Conditions::variation(1));
    }

    #[test]
    fn variations_differ_from_each_other() {
        let (one, two) = (
            Conditions::variation(1).values(),
            Conditions::variation(2).values(),
        );
        for condition in Condition::ALL {
            // One processor is the only number that every machine has.
            assert_eq!(
                one[&condition] == two[&condition],
                condition == Condition::Cpus
            );
        }
    }

    #[test]
    fn single_variation_changes_one_condition() {
        let default = Conditions::default().values();
        for condition in Condition::ALL {
            let varied = Conditions::only(condition, 2).values();
            let changed: Vec<Condition> = Condition::ALL
                .into_iter()
                .filter(|other| varied[other] != default[other])
                .collect();
            assert_eq!(changed, [condition]);
        }
    }

    #[test]
    fn shuffling_loses_nothing_and_depends_on_the_seed_alone() {
        let items: Vec<u32> = (0..100).collect();
        let one = shuffled(items.clone(), 1);
        assert_ne!(one, items);
        assert_eq!(one, shuffled(items.clone(), 1));
        assert_ne!(one, shuffled(items.clone(), 2));
        let mut sorted = one;
        sorted.sort_unstable();
        assert_eq!(sorted, items);
        assert!(shuffled(Vec::<u8>::new(), 1).is_empty());
    }

    #[test]
    fn shuffled_copy_has_the_same_files_listed_in_another_order() {
        let shm = Path::new("/dev/shm");
        if !shm.is_dir() {
            return;
        }
        let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir_in(shm).unwrap()).collect();
        let [source, sorted, other] = &folders[..] else {
            unreachable!()
        };
        for number in 0..50 {
            std::fs::write(source.path().join(format!("f{number}")), [number]).unwrap();
        }
        std::os::unix::fs::symlink("f1", source.path().join("link")).unwrap();
        std::fs::create_dir_all(source.path().join("deep/empty")).unwrap();
        copy_in_order(source.path(), sorted.path(), None).unwrap();
        copy_in_order(source.path(), other.path(), Some(7)).unwrap();
        let names = |folder: &Path| -> Vec<_> {
            let entries = std::fs::read_dir(folder).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect()
        };
        let (mut one, mut two) = (names(sorted.path()), names(other.path()));
        assert_ne!(one, two, "a tmpfs lists by creation");
        one.sort();
        two.sort();
        assert_eq!(one, two);
        assert_eq!(one.len(), 52);
        assert!(other.path().join("deep/empty").is_dir());
        assert_eq!(std::fs::read(other.path().join("link")).unwrap(), [1]);
    }
}
