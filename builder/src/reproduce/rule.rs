//! The table of causes that can be seen in what differs. Special ones come first. Pure.

mod bytes;
mod composer;
mod frontend;
mod surroundings;
#[cfg(test)]
mod tests;

use super::cause::{self, Cause, Known, Proof};
use super::evidence::Evidence;
use crate::conditions::Condition;

/// One cause and how it is recognised.
pub(super) struct Rule {
    known: Known,
    /// Which conditions bring it out.
    conditions: &'static [Condition],
    /// Whether it shows without any of them being varied.
    unsteady: bool,
    applies: fn(&Evidence<'_>) -> bool,
}

const RULES: &[Rule] = &[
    Rule {
        known: Known {
            id: "autoloader-suffix",
            sentence: "Composer gave its autoloader a random name",
            remedy: "set `config.autoloader-suffix` in composer.json to any fixed word",
        },
        conditions: &[],
        unsteady: true,
        applies: composer::autoloader_suffix,
    },
    Rule {
        known: Known {
            id: "apcu-prefix",
            sentence: "Composer's APCu autoloader got a random prefix",
            remedy: "leave out `--apcu-autoloader` (`config.apcu-autoloader` in composer.json)",
        },
        conditions: &[],
        unsteady: true,
        applies: composer::apcu_prefix,
    },
    Rule {
        known: Known {
            id: "root-package",
            sentence: "Composer wrote version and git commit of the application into vendor/composer/installed.php",
            remedy: "set `COMPOSER_ROOT_VERSION`, and run Composer where no `.git` is",
        },
        conditions: &[Condition::Clock, Condition::Place],
        unsteady: true,
        applies: composer::root_package,
    },
    Rule {
        known: Known {
            id: "ambiguous-class",
            sentence: "a class is declared in two files, and Composer takes the one that the disk lists first",
            remedy: "keep one declaration, or name the other file in `autoload.exclude-from-classmap`",
        },
        conditions: &[Condition::Order],
        unsteady: false,
        applies: composer::ambiguous_class,
    },
    Rule {
        known: Known {
            id: "asset-url",
            sentence: "ASSET_URL is part of the assets and was another one",
            remedy: "declare ASSET_URL in `[build.env]`; environments that need different ones need different releases",
        },
        conditions: &[],
        unsteady: true,
        applies: frontend::asset_url,
    },
    Rule {
        known: Known {
            id: "vite-variable",
            sentence: "a VITE_ variable is part of the assets and was another one",
            remedy: "declare it in `[build.env]`; environments that need different ones need different releases",
        },
        conditions: &[],
        unsteady: true,
        applies: frontend::vite_variable,
    },
    Rule {
        known: Known {
            id: "compiled-view",
            sentence: "it is a compiled Blade view, which is named after the absolute path of its source and contains it",
            remedy: "leave `storage/framework/views` out (`[build] exclude`); hosts compile views in their own place",
        },
        conditions: &[Condition::Place],
        unsteady: false,
        applies: frontend::compiled_view,
    },
    Rule {
        known: Known {
            id: "install-script",
            sentence: "an npm package built something on this machine while it was installed",
            remedy: "install with `--ignore-scripts`, or leave `node_modules` out of the release",
        },
        conditions: &[Condition::Cpus, Condition::Clock],
        unsteady: true,
        applies: frontend::install_script,
    },
    Rule {
        known: Known {
            id: "tailwind",
            sentence: "the CSS has other classes: what Tailwind scans for class names is not always the same, such as storage/framework/views",
            remedy: "name the scanned folders in `@source` or `content`, and no folder that a step writes to",
        },
        conditions: &[Condition::Place, Condition::Order],
        unsteady: true,
        applies: frontend::tailwind,
    },
    Rule {
        known: Known {
            id: "archive-time",
            sentence: "an archive holds the times of the files in it",
            remedy: "pack without times: `gzip -n`, `zip -X` of files touched to SOURCE_DATE_EPOCH, `tar --mtime=@$SOURCE_DATE_EPOCH`",
        },
        conditions: &[Condition::Clock, Condition::TimeZone],
        unsteady: true,
        applies: bytes::archive_time,
    },
    Rule {
        known: cause::PATH,
        conditions: &[Condition::Place],
        unsteady: false,
        applies: surroundings::path,
    },
    Rule {
        known: cause::HOME,
        conditions: &[Condition::Home],
        unsteady: false,
        applies: surroundings::home,
    },
    Rule {
        known: cause::HOST_NAME,
        conditions: &[Condition::HostName],
        unsteady: false,
        applies: surroundings::host_name,
    },
    Rule {
        known: Known {
            id: "uniqid",
            sentence: "it has a `uniqid()` in it, which is the time of the build",
            remedy: "use a fixed word, or a hash of what it stands for",
        },
        conditions: &[Condition::Clock],
        unsteady: true,
        applies: bytes::uniqid,
    },
    Rule {
        known: cause::TIME,
        conditions: &[Condition::Clock],
        unsteady: true,
        applies: surroundings::time,
    },
    Rule {
        known: cause::TIME_ZONE,
        conditions: &[Condition::TimeZone],
        unsteady: false,
        applies: surroundings::time_zone,
    },
    Rule {
        known: cause::USER,
        conditions: &[Condition::User],
        unsteady: false,
        applies: surroundings::user,
    },
    Rule {
        known: cause::UMASK,
        conditions: &[Condition::Umask],
        unsteady: false,
        applies: surroundings::umask,
    },
    Rule {
        known: cause::PROCESSORS,
        conditions: &[Condition::Cpus],
        unsteady: false,
        applies: surroundings::processors,
    },
    Rule {
        known: cause::LOCALE,
        conditions: &[Condition::Locale],
        unsteady: false,
        applies: surroundings::locale,
    },
    Rule {
        known: cause::FOLDER_ORDER,
        conditions: &[Condition::Order],
        unsteady: false,
        applies: bytes::other_order,
    },
    Rule {
        known: Known {
            id: "parallel",
            sentence: "the same things stand in another order each time: work was done at the same time and written as it ended",
            remedy: "sort the results, or use one worker",
        },
        conditions: &[Condition::Cpus],
        unsteady: true,
        applies: bytes::other_order,
    },
    Rule {
        known: Known {
            id: "random",
            sentence: "it has something random in it, or a hash of something that differs",
            remedy: "use a fixed value, or a hash of the content",
        },
        conditions: &[],
        unsteady: true,
        applies: bytes::random,
    },
];

/// Returns the rules that could explain the evidence, the most special one first.
pub(super) fn suspects(evidence: &Evidence<'_>) -> Vec<&'static Rule> {
    let varied = |condition: &Condition| evidence.first.differs(evidence.second, *condition);
    RULES
        .iter()
        .filter(|rule| rule.unsteady || rule.conditions.iter().any(varied))
        .filter(|rule| (rule.applies)(evidence))
        .collect()
}

impl Rule {
    /// The conditions that would bring it out.
    pub(super) const fn conditions(&self) -> &'static [Condition] {
        self.conditions
    }

    /// A cause that nothing but the looks of it speaks for.
    pub(super) const fn suspicion(&self) -> Cause {
        Cause {
            known: self.known,
            proof: Proof::Looks,
        }
    }
}

/// Returns the cause of a file that differs when one condition alone is varied.
pub(super) fn proven(evidence: &Evidence<'_>, condition: Condition) -> Cause {
    let rules = suspects(evidence);
    let rule = rules
        .iter()
        .find(|rule| rule.conditions.contains(&condition));
    Cause {
        known: rule.map_or(cause::of_condition(condition), |rule| rule.known),
        proof: Proof::Alone(condition),
    }
}

/// Returns the cause of a file that differs when no condition is varied. Some differ all the same,
/// such as the place of a build without a sandbox; then looks have to do.
pub(super) fn unsteady(evidence: &Evidence<'_>) -> Cause {
    match suspects(evidence).first() {
        Some(rule) if rule.unsteady => Cause {
            known: rule.known,
            proof: Proof::Unsteady,
        },
        Some(rule) => rule.suspicion(),
        None => Cause {
            known: cause::UNSTEADY,
            proof: Proof::Unsteady,
        },
    }
}
