//! Takes typed values out of a TOML document and notes every mistake instead of stopping at one.
//!
//! serde would stop at the first mistake and could not name the nearest key, so the tables are
//! walked by hand. Pure: text in, values and [`Problem`]s out.

use std::collections::BTreeMap;
use std::ops::Range;

use toml_edit::{Item, TableLike, Value};

use super::problem::{Place, Placed, Problem, nearest};

/// One table of the document and its path (`env.prod`); the root has an empty path.
#[derive(Clone)]
pub(crate) struct Section<'a> {
    pub(crate) path: String,
    pub(crate) place: Option<Place>,
    table: &'a dyn TableLike,
}

impl<'a> Section<'a> {
    /// The path of a key of this table.
    pub(crate) fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// The names in this table, in the order of the file.
    pub(crate) fn names(&self) -> Vec<&'a str> {
        self.table.iter().map(|(name, _)| name).collect()
    }

    fn get(&self, name: &str) -> Option<&'a Item> {
        self.table.get(name).filter(|item| !item.is_none())
    }
}

/// Reads sections of one document and collects what is wrong with them.
pub(crate) struct Reader<'a> {
    text: &'a str,
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// A reader for the document that was parsed from this text.
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            problems: Vec::new(),
        }
    }

    /// The root table of a document.
    pub(crate) fn root(&self, document: &'a toml_edit::Document<&str>) -> Section<'a> {
        Section {
            path: String::new(),
            place: None,
            table: document.as_table(),
        }
    }

    /// Notes a mistake.
    pub(crate) fn problem(
        &mut self,
        place: Option<Place>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.problems.push(Problem::new(place, key, message));
    }

    /// Notes every key of the section that is not known, with the nearest known one.
    pub(crate) fn reject_unknown(&mut self, section: &Section<'a>, known: &[&str]) {
        for name in section.names() {
            if known.contains(&name) {
                continue;
            }
            let place = self.key_place(section, name);
            let message = match nearest(name, known.iter().copied()) {
                Some(near) => format!("unknown key, did you mean `{near}`?"),
                None => format!("unknown key, known here: {}", known.join(", ")),
            };
            self.problem(place, section.key(name), message);
        }
    }

    /// The table under a key; `None` when it is absent or (noted) no table.
    pub(crate) fn section(&mut self, parent: &Section<'a>, name: &str) -> Option<Section<'a>> {
        let item = parent.get(name)?;
        let place = self.key_place(parent, name);
        match item.as_table_like() {
            Some(table) => Some(Section {
                path: parent.key(name),
                place,
                table,
            }),
            None => self.wrong_type(parent.key(name), item, "a table"),
        }
    }

    /// A list of tables, as `[{ ... }]` or `[[...]]`; `None` when absent.
    pub(crate) fn sections(
        &mut self,
        parent: &Section<'a>,
        name: &str,
    ) -> Option<Vec<Section<'a>>> {
        let item = parent.get(name)?;
        let key = parent.key(name);
        if let Some(tables) = item.as_array_of_tables() {
            let sections = tables.iter().enumerate().map(|(index, table)| {
                let place = self.place(table.span());
                Section {
                    path: format!("{key}[{index}]"),
                    place,
                    table,
                }
            });
            return Some(sections.collect());
        }
        let Some(array) = item.as_array() else {
            return self.wrong_type(key, item, "a list of tables");
        };
        let mut sections = Vec::new();
        for (index, value) in array.iter().enumerate() {
            let path = format!("{key}[{index}]");
            let place = self.place(value.span());
            match value.as_inline_table() {
                Some(table) => sections.push(Section { path, place, table }),
                None => self.problem(place, path, format!("must be a table, not {}", kind(value))),
            }
        }
        Some(sections)
    }

    /// A string; `None` when it is absent or (noted) of another type.
    pub(crate) fn string(&mut self, section: &Section<'a>, name: &str) -> Option<Placed<String>> {
        let item = section.get(name)?;
        match item.as_str() {
            Some(text) => Some(self.placed(item.span(), text.to_owned())),
            None => self.wrong_type(section.key(name), item, "a string"),
        }
    }

    /// A whole number.
    pub(crate) fn integer(&mut self, section: &Section<'a>, name: &str) -> Option<Placed<i64>> {
        let item = section.get(name)?;
        match item.as_integer() {
            Some(number) => Some(self.placed(item.span(), number)),
            None => self.wrong_type(section.key(name), item, "a whole number"),
        }
    }

    /// A list of strings; elements of another type are noted and left out.
    pub(crate) fn strings(
        &mut self,
        section: &Section<'a>,
        name: &str,
    ) -> Option<Placed<Vec<Placed<String>>>> {
        let item = section.get(name)?;
        let key = section.key(name);
        let Some(array) = item.as_array() else {
            return self.wrong_type(key, item, "a list of strings");
        };
        let mut strings = Vec::new();
        for (index, value) in array.iter().enumerate() {
            let placed = self.placed(value.span(), value);
            match value.as_str() {
                Some(text) => strings.push(Placed {
                    value: text.to_owned(),
                    place: placed.place,
                }),
                None => self.problem(
                    Some(placed.place),
                    format!("{key}[{index}]"),
                    format!("must be a string, not {}", kind(value)),
                ),
            }
        }
        Some(self.placed(item.span(), strings))
    }

    /// A list of strings, or one string for a list of one.
    pub(crate) fn string_or_strings(
        &mut self,
        section: &Section<'a>,
        name: &str,
    ) -> Option<Placed<Vec<Placed<String>>>> {
        if section.get(name)?.as_str().is_none() {
            return self.strings(section, name);
        }
        let text = self.string(section, name)?;
        Some(Placed {
            place: text.place,
            value: vec![text],
        })
    }

    /// True or false.
    pub(crate) fn boolean(&mut self, section: &Section<'a>, name: &str) -> Option<Placed<bool>> {
        let item = section.get(name)?;
        match item.as_bool() {
            Some(value) => Some(self.placed(item.span(), value)),
            None => self.wrong_type(section.key(name), item, "true or false"),
        }
    }

    /// A table of strings, such as environment variables.
    pub(crate) fn string_map(
        &mut self,
        section: &Section<'a>,
        name: &str,
    ) -> Option<BTreeMap<String, Placed<String>>> {
        let table = self.section(section, name)?;
        let mut map = BTreeMap::new();
        for name in table.names() {
            if let Some(text) = self.string(&table, name) {
                map.insert(name.to_owned(), text);
            }
        }
        Some(map)
    }

    /// Whether a key holds a table rather than a plain value; false when it is absent.
    pub(crate) fn is_table(&self, section: &Section<'a>, name: &str) -> bool {
        section.get(name).is_some_and(Item::is_table_like)
    }

    /// Whether a key is there at all.
    pub(crate) fn has(&self, section: &Section<'a>, name: &str) -> bool {
        section.get(name).is_some()
    }

    /// Where a key of a section stands.
    pub(crate) fn key_place(&self, section: &Section<'a>, name: &str) -> Option<Place> {
        self.place(section.table.key(name).and_then(toml_edit::Key::span))
    }

    fn place(&self, span: Option<Range<usize>>) -> Option<Place> {
        span.map(|span| Place::of(self.text, span.start))
    }

    fn placed<T>(&self, span: Option<Range<usize>>, value: T) -> Placed<T> {
        Placed {
            value,
            place: self.place(span).unwrap_or(Place { line: 1, column: 1 }),
        }
    }

    fn wrong_type<T>(&mut self, key: String, item: &Item, wanted: &str) -> Option<T> {
        let found = match item {
            Item::Value(value) => kind(value),
            Item::ArrayOfTables(_) => "a list of tables",
            Item::Table(_) | Item::None => "a table",
        };
        let place = self.place(item.span());
        self.problem(place, key, format!("must be {wanted}, not {found}"));
        None
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::InlineTable(_) => "a table",
    }
}
