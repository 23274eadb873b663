//! What Composer is known to write differently each time.

use super::super::evidence::Evidence;

const GENERATED_CLASSES: [&str; 2] = ["ComposerAutoloaderInit", "ComposerStaticInit"];

pub(super) fn autoloader_suffix(evidence: &Evidence<'_>) -> bool {
    let is_generated = |text: &str| GENERATED_CLASSES.iter().any(|class| text.contains(class));
    evidence
        .changes
        .iter()
        .any(|change| is_generated(&change.old) && is_generated(&change.new))
}

pub(super) fn apcu_prefix(evidence: &Evidence<'_>) -> bool {
    evidence.path().ends_with("composer/autoload_real.php")
        && evidence
            .changes
            .iter()
            .any(|change| change.new_around.contains("ApcuPrefix"))
}

pub(super) fn root_package(evidence: &Evidence<'_>) -> bool {
    let path = evidence.path();
    let installed = ["composer/installed.php", "composer/installed.json"];
    installed.iter().any(|name| path.ends_with(name))
        && evidence.changes.iter().any(|change| {
            let key = |name: &str| change.new_around.contains(name);
            key("reference") || key("version")
        })
}

pub(super) fn ambiguous_class(evidence: &Evidence<'_>) -> bool {
    let path = evidence.path();
    let maps = [
        "composer/autoload_classmap.php",
        "composer/autoload_static.php",
    ];
    maps.iter().any(|name| path.ends_with(name))
        && evidence.changes.iter().any(|change| {
            let class = |line: &str| {
                line.split_once("=>")
                    .map(|(class, _)| class.trim().to_owned())
            };
            let (old, new) = (class(&change.old_around), class(&change.new_around));
            old.is_some() && old == new
        })
}
