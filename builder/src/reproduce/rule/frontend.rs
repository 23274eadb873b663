//! What Vite, Tailwind, npm and Blade are known to write differently each time.

use super::super::evidence::Evidence;

pub(super) fn asset_url(evidence: &Evidence<'_>) -> bool {
    variable(evidence, |name| name == "ASSET_URL")
}

pub(super) fn vite_variable(evidence: &Evidence<'_>) -> bool {
    variable(evidence, |name| name.starts_with("VITE_"))
}

/// Whether a declared variable differs and its values stand where the file does.
fn variable(evidence: &Evidence<'_>, is_meant: impl Fn(&str) -> bool) -> bool {
    let (first, second) = (&evidence.first.env, &evidence.second.env);
    first
        .keys()
        .chain(second.keys())
        .filter(|name| is_meant(name))
        .any(|name| {
            let value = |side: &std::collections::BTreeMap<String, String>| {
                side.get(name).cloned().unwrap_or_default()
            };
            let (old, new) = (value(first), value(second));
            old != new
                && evidence.any(
                    |change| change.old_around.contains(&old),
                    |change| change.new_around.contains(&new),
                )
        })
}

pub(super) fn compiled_view(evidence: &Evidence<'_>) -> bool {
    let path = evidence.path();
    let lies_there = path.contains("storage/framework/views/") && path.ends_with(".php");
    lies_there
        || evidence
            .changes
            .iter()
            .any(|change| change.new_around.contains("/**PATH "))
}

pub(super) fn install_script(evidence: &Evidence<'_>) -> bool {
    let path = evidence.path();
    path.starts_with("node_modules/") || path.contains("/node_modules/")
}

pub(super) fn tailwind(evidence: &Evidence<'_>) -> bool {
    let texts = evidence.stretch.texts();
    evidence.path().ends_with(".css")
        && texts.is_some_and(|(old, new)| class_selectors(old) != class_selectors(new))
}

/// Number of rules for classes. Only the number: a class may be named after a hash.
fn class_selectors(css: &str) -> usize {
    let selectors = css
        .split('{')
        .map(|part| part.rsplit(['}', ';', '{']).next().unwrap_or(part));
    selectors
        .filter(|selector| selector.trim_start().starts_with('.'))
        .count()
}
