//! The share of covered lines in a Clover or Cobertura file. Pure.
//!
//! - Clover: `coverage > project > metrics` with `statements` and `coveredstatements`.
//! - Cobertura: `coverage` with `line-rate`, from 0 to 1.

use std::io::BufRead;

use quick_xml::events::BytesStart;

use super::junit::{Element, ReportError, elements};

/// Covered lines in percent, with two decimals; `None` when the file is about no line at all.
///
/// # Errors
/// A [`ReportError`].
pub fn parse(text: impl BufRead) -> Result<Option<f64>, ReportError> {
    let mut percent = None;
    let mut is_coverage = false;
    elements(text, |element| {
        let Element::Open(depth, start) = element else {
            return Ok(());
        };
        match (depth, start.local_name().as_ref()) {
            (1, "coverage") => {
                is_coverage = true;
                percent = number(start, "line-rate").map(|rate| rate * 100.0);
            }
            (3, "metrics") => {
                let covered = number(start, "coveredstatements");
                let all = number(start, "statements").filter(|all| *all > 0.0);
                if let (Some(covered), Some(all)) = (covered, all) {
                    percent = Some(covered / all * 100.0);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    if !is_coverage {
        return Err(ReportError::Root {
            expected: "coverage",
        });
    }
    let possible = percent.filter(|percent| (0.0..=100.0).contains(percent));
    Ok(possible.map(|percent| (percent * 100.0).round() / 100.0))
}

fn number(start: &BytesStart<'_>, name: &str) -> Option<f64> {
    let attribute = start.try_get_attribute(name).ok()??;
    attribute.value.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn percent(text: &str) -> Option<f64> {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn clover_counts_the_whole_project_and_no_single_file() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<coverage generated="1">
  <project timestamp="1">
    <file name="a.php"><metrics statements="10" coveredstatements="0"/></file>
    <package name="p"><file name="b.php"><metrics statements="56" coveredstatements="56"/></file></package>
    <metrics files="2" statements="66" coveredstatements="61" elements="79" coveredelements="71"/>
  </project>
</coverage>"#;
        assert_eq!(percent(text), Some(92.42));
    }

    #[test]
    fn cobertura_says_it_at_its_root() {
        let text = r#"<!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/xml/coverage-04.dtd">
<coverage line-rate="0.92424242424242" branch-rate="0" lines-valid="66"><sources/></coverage>"#;
        assert_eq!(percent(text), Some(92.42));
    }

    #[test]
    fn nothing_to_cover_and_impossible_numbers_give_no_figure() {
        for attributes in [
            "line-rate=\"NaN\"",
            "line-rate=\"7\"",
            "line-rate=\"-1\"",
            "",
        ] {
            assert_eq!(percent(&format!("<coverage {attributes}/>")), None);
        }
        for metrics in [
            "statements=\"0\" coveredstatements=\"0\"",
            "statements=\"1\" coveredstatements=\"2\"",
            "statements=\"x\" coveredstatements=\"2\"",
            "statements=\"1\"",
            "statements=\"1\" statements=\"1\" coveredstatements=\"1\"",
        ] {
            let text = format!("<coverage><project><metrics {metrics}/></project></coverage>");
            assert!(
                percent(&text).is_none_or(|percent| percent <= 100.0),
                "{text}"
            );
        }
    }

    #[test]
    fn other_and_broken_files_are_refused() {
        for text in ["", "<testsuites/>", "<coverage>", "<coverage"] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn figures_are_a_share(all in 1..100_000_u32, part in 0.0..=1.0_f64) {
            let covered = (f64::from(all) * part).floor();
            let text = format!("<coverage><project><metrics statements='{all}' coveredstatements='{covered}'/></project></coverage>");
            let percent = percent(&text).unwrap();
            prop_assert!((percent - covered / f64::from(all) * 100.0).abs() <= 0.005_001);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes[..]);
        }
    }
}
