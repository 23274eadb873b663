//! Sums of a JUnit file. Pure.
//!
//! The `testcase` elements are counted, not the attributes of suites: nested suites (PHPUnit
//! writes them) repeat the numbers of what is inside, and writers disagree about them. Format: the
//! one that Ant's junit task began, a root `testsuites` or `testsuite`, and in each `testcase` at
//! most a `failure`, an `error` or a `skipped`.

use std::io::BufRead;

use quick_xml::events::Event;

use super::result::JunitSummary;

/// Why a report cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The text is not well-formed, or not in an encoding like UTF-8.
    #[error("it is no XML")]
    Xml(#[from] quick_xml::Error),
    /// It ends in the middle.
    #[error("it ends in the middle")]
    Cut,
    /// It is about something else.
    #[error("its root is not one of: {expected}")]
    Root {
        /// The roots it may have.
        expected: &'static str,
    },
}

/// What a test case has inside.
#[derive(Default)]
struct Case {
    failure: bool,
    error: bool,
    skipped: bool,
}

/// Counts the test cases of a JUnit file.
///
/// # Errors
/// A [`ReportError`].
pub fn parse(text: impl BufRead) -> Result<JunitSummary, ReportError> {
    let mut sums = JunitSummary {
        tests: 0,
        failures: 0,
        errors: 0,
        skipped: 0,
    };
    let mut case: Option<Case> = None;
    let mut has_root = false;
    elements(text, |element| {
        match element {
            Element::Open(1, start) => {
                has_root = matches!(start.local_name().as_ref(), "testsuites" | "testsuite");
            }
            Element::Open(_, start) => match (start.local_name().as_ref(), &mut case) {
                ("testcase", _) => case = Some(Case::default()),
                ("failure", Some(case)) => case.failure = true,
                ("error", Some(case)) => case.error = true,
                ("skipped", Some(case)) => case.skipped = true,
                _ => {}
            },
            Element::Close(end) => {
                if end.local_name().as_ref() == "testcase"
                    && let Some(case) = case.take()
                {
                    sums.tests += 1;
                    sums.failures += u64::from(case.failure);
                    sums.errors += u64::from(case.error);
                    sums.skipped += u64::from(case.skipped);
                }
            }
        }
        Ok(())
    })?;
    if !has_root {
        return Err(ReportError::Root {
            expected: "testsuites, testsuite",
        });
    }
    Ok(sums)
}

/// A tag, for those who look at elements only.
pub(crate) enum Element<'a> {
    /// How deep it is, from 1 for the root.
    Open(u64, &'a quick_xml::events::BytesStart<'a>),
    Close(&'a quick_xml::events::BytesEnd<'a>),
}

/// Visits all tags in order; one without content is opened and closed. Entities are not resolved,
/// so a small text cannot become a large one.
pub(crate) fn elements(
    text: impl BufRead,
    mut visit: impl FnMut(Element<'_>) -> Result<(), ReportError>,
) -> Result<(), ReportError> {
    let mut reader = quick_xml::Reader::from_reader(text);
    reader.config_mut().expand_empty_elements = true;
    let (mut buffer, mut depth) = (Vec::new(), 0_u64);
    loop {
        match reader.read_event_into(&mut buffer)? {
            Event::Start(start) => {
                depth += 1;
                visit(Element::Open(depth, &start))?;
            }
            Event::End(end) => {
                depth -= 1;
                visit(Element::Close(&end))?;
            }
            Event::Eof if depth == 0 => return Ok(()),
            Event::Eof => return Err(ReportError::Cut),
            _ => {}
        }
        buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn sums(text: &str) -> (u64, u64, u64, u64) {
        let sums = parse(text.as_bytes()).unwrap();
        (sums.tests, sums.failures, sums.errors, sums.skipped)
    }

    #[test]
    fn nested_suites_of_phpunit_are_counted_once() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites>
  <testsuite name="" tests="4" failures="1" errors="1" skipped="1">
    <testsuite name="Unit" tests="4" failures="1" errors="1" skipped="1">
      <testcase name="a" time="0.1"/>
      <testcase name="b"><failure type="x">expected &lt;1&gt;</failure></testcase>
      <testcase name="c"><error type="x"><![CDATA[<failure>]]></error></testcase>
      <testcase name="d"><skipped/></testcase>
    </testsuite>
  </testsuite>
</testsuites>"#;
        assert_eq!(sums(text), (4, 1, 1, 1));
    }

    #[test]
    fn one_suite_may_be_the_root_and_may_be_empty() {
        assert_eq!(sums("<testsuite/>"), (0, 0, 0, 0));
        assert_eq!(sums("<testsuites></testsuites>\n"), (0, 0, 0, 0));
        assert_eq!(
            sums("<testsuite><testcase/><system-out>failure</system-out></testsuite>"),
            (1, 0, 0, 0)
        );
        // Outside of a case it is about the suite, and no test is counted for it.
        assert_eq!(sums("<testsuite><error/></testsuite>"), (0, 0, 0, 0));
    }

    #[test]
    fn other_and_broken_files_are_refused() {
        for text in [
            "",
            "text",
            "<html/>",
            "<testsuites>",
            "<testsuites><testcase></testsuites>",
            "</testsuites>",
            "<testsuites",
            "{\"tests\": 3}",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let wide: Vec<u8> = "<testsuites/>"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert!(parse(&wide[..]).is_err());
    }

    #[test]
    fn entities_of_a_document_do_not_grow() {
        let text = r#"<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>
<testsuites><testcase name="n"><failure>&b;&b;&b;</failure></testcase></testsuites>"#;
        assert_eq!(sums(text), (1, 1, 0, 0));
    }

    #[test]
    fn deep_nesting_is_only_counted() {
        let depth = 200_000;
        let text = "<testsuite>".repeat(depth) + "<testcase/>" + &"</testsuite>".repeat(depth);
        assert_eq!(sums(&text), (1, 0, 0, 0));
    }

    proptest! {
        #[test]
        fn what_a_suite_holds_is_what_is_counted(cases in prop::collection::vec(0..5_u8, 0..40)) {
            let mut text = "<testsuites><testsuite>".to_owned();
            for (index, case) in cases.iter().enumerate() {
                text += match case {
                    0 => "<testcase/>",
                    1 => "<testcase><failure/><failure/></testcase>",
                    2 => "<testcase><error>&amp;</error></testcase>",
                    3 => "<testcase><skipped message=\"'\"/></testcase>",
                    _ => "<testcase><properties><property/></properties></testcase>",
                };
                if index % 7 == 3 {
                    text += "</testsuite><testsuite>";
                }
            }
            text += "</testsuite></testsuites>";
            let count = |kind| cases.iter().filter(|case| **case == kind).count() as u64;
            prop_assert_eq!(
                sums(&text),
                (cases.len() as u64, count(1), count(2), count(3))
            );
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes[..]);
        }

        #[test]
        fn no_tags_make_it_panic(text in "(<|</|/>|>|testcase|testsuites|failure|\"|=|&| |<!--|-->|<!\\[CDATA\\[){0,40}") {
            let _ = parse(text.as_bytes());
        }
    }
}
