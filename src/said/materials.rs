//! What a release is made of, summed up from its bill of materials.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::text;

/// Packages and licences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Materials {
    /// By ecosystem, such as `composer`.
    pub(crate) packages: BTreeMap<String, Packages>,
    /// Packages per licence text, of those that may be in the release.
    pub(crate) licences: BTreeMap<String, u64>,
    /// Packages that name no licence, of the same.
    pub(crate) unlicensed: u64,
}

/// Packages of one ecosystem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packages {
    pub(crate) all: u64,
    /// Those that are not required: for development or for other platforms.
    pub(crate) others: u64,
}

impl Materials {
    /// Reads a CycloneDX document.
    pub(super) fn of(document: &Value) -> Self {
        let mut materials = Self::default();
        for component in document["components"].as_array().into_iter().flatten() {
            let purl = component["purl"].as_str().unwrap_or_default();
            let kind = purl
                .strip_prefix("pkg:")
                .and_then(|rest| rest.split('/').next());
            let packages = materials.packages.entry(kind.unwrap_or("other").to_owned());
            let packages = packages.or_default();
            packages.all += 1;
            let scope = component["scope"].as_str().unwrap_or("required");
            if scope != "required" {
                packages.others += 1;
            }
            if scope != "excluded" {
                materials.add_licences(&component["licenses"]);
            }
        }
        materials
    }

    fn add_licences(&mut self, licences: &Value) {
        let one = |licence: &Value| {
            text(&licence["license"]["id"])
                .or_else(|| text(&licence["license"]["name"]))
                .or_else(|| text(&licence["expression"]))
        };
        let found: Vec<String> = licences
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(one)
            .collect();
        if found.is_empty() {
            self.unlicensed += 1;
        } else {
            *self.licences.entry(found.join(", ")).or_default() += 1;
        }
    }

    /// Licences, those of the most packages first.
    pub(crate) fn by_count(&self) -> Vec<(&str, u64)> {
        let mut licences: Vec<_> = self
            .licences
            .iter()
            .map(|(name, count)| (name.as_str(), *count))
            .collect();
        licences.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        licences
    }

    /// For `--json`.
    pub(super) fn to_json(&self) -> Value {
        let packages: BTreeMap<_, _> = self
            .packages
            .iter()
            .map(|(kind, count)| {
                (
                    kind,
                    json!({ "all": count.all, "not_required": count.others }),
                )
            })
            .collect();
        json!({
            "packages": packages,
            "licences": self.licences,
            "without_licence": self.unlicensed,
        })
    }
}
