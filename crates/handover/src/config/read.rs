//! From parsed TOML to typed tables: every value keeps its place, and every mistake is noted, not only the first.
//!
//! `table!` and `choice!` make the types of `raw`. A key that is known but not served yet is refused by name
//! where it stands; an unknown key is refused with the nearest known one. Nothing here knows what a key means.

use std::fmt::Display;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::nearest::{called_elsewhere, nearest};

/// What has been found so far.
#[derive(Debug)]
pub(super) struct Problems<'s> {
    /// The manifest's text.
    source: &'s str,
    found: Vec<Problem>,
}

impl<'s> Problems<'s> {
    /// None so far.
    pub(super) fn new(source: &'s str) -> Self {
        Self { source, found: Vec::new() }
    }

    /// Notes one.
    pub(super) fn push(&mut self, problem: Problem) {
        self.found.push(problem);
    }

    /// All of them.
    pub(super) fn into_found(self) -> Vec<Problem> {
        self.found
    }

    /// The text at a place, as written.
    pub(super) fn text(&self, span: &Range<usize>) -> &'s str {
        self.source.get(span.clone()).unwrap_or_default()
    }
}

/// A value and its place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot<T> {
    /// What it says.
    pub(super) value: T,
    /// Where.
    pub(super) span: Range<usize>,
}

/// What the file says for one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Given<T> {
    /// Nothing: the default holds, where there is one.
    #[default]
    Absent,
    /// Something wrong, which has been noted.
    Wrong,
    /// This.
    Is(Spot<T>),
}

impl<T> Given<T> {
    /// What it says, if it is right.
    pub(super) fn get(&self) -> Option<&T> {
        self.spot().map(|spot| &spot.value)
    }

    /// What it says and where, if it is right.
    pub(super) fn spot(&self) -> Option<&Spot<T>> {
        match self {
            Self::Is(spot) => Some(spot),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// Nothing was said.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<T: Copy> Given<T> {
    /// What it says, else the default; after a wrong value the result is used for further checks only.
    pub(super) fn or(&self, default: T) -> T {
        self.get().copied().unwrap_or(default)
    }
}

impl<T: JsonSchema> JsonSchema for Given<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Spot<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A type that can be read from a TOML value.
pub(super) trait Read: Sized {
    /// Reads it, or notes what is wrong with it. `key` is its full name, for messages.
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self>;

    /// The same with its place.
    fn read_given(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Given<Self> {
        match Self::read(value, key, problems) {
            Some(read) => Given::Is(Spot { value: read, span: value.span() }),
            None => Given::Wrong,
        }
    }
}

/// A table with fixed keys.
pub(super) trait Table: Sized {
    /// Keys that are served.
    const KEYS: &'static [&'static str];
    /// Keys that are known but refused for now, and what to do meanwhile.
    const LATER: &'static [(&'static str, &'static str)];

    /// Reads its keys.
    fn read_table(table: &DeTable<'_>, key: &str, problems: &mut Problems<'_>) -> Self;
}

impl<T: Table> Read for T {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        let table = as_table(value, key, problems)?;
        Some(Self::read_table(table, key, problems))
    }
}

/// How keys look for which `true`, a number or a word is a likely first try.
fn example(name: &str) -> Option<&'static str> {
    Some(match name {
        "balance" => "balance = { algorithm = \"round-robin\" }",
        "hash" => "hash = { cookie = \"session\" }",
        "https_redirect" => "https_redirect = \"NAME\", a listener with `tls`",
        "maintenance" => "maintenance = { on = true }",
        "outlier" => "outlier = { enabled = false }",
        "retry" => "retry = { attempts = 2 }",
        "split" => "split = [{ service = \"NAME\", weight = 80 }, …]",
        "sticky" => "sticky = { cookie = \"handover_release\" }",
        _ => return None,
    })
}

/// The value as a table, or a note that it is none.
pub(super) fn as_table<'v, 'd>(
    value: &'v Spanned<DeValue<'d>>,
    key: &str,
    problems: &mut Problems<'_>,
) -> Option<&'v DeTable<'d>> {
    let table = value.get_ref().as_table();
    if table.is_none() {
        let help = if let Some(example) = example(last(key)) {
            format!("write {example}")
        } else if value.get_ref().is_array() {
            format!("write [{key}] with single brackets, or `{} = {{ … }}`", last(key))
        } else {
            format!("write [{key}] and its keys on the lines below, or `{} = {{ … }}`", last(key))
        };
        problems.push(not_a(value, key, "a table").help(help));
    }
    table
}

/// A table's keys and values in the order of the file.
pub(super) fn in_file_order<'t, 'd>(
    table: &'t DeTable<'d>,
) -> Vec<(&'t Spanned<std::borrow::Cow<'d, str>>, &'t Spanned<DeValue<'d>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The last part of a full key.
pub(super) fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// The full name of a key inside `parent`.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// A problem: `key` must be `what`, and is something else.
pub(super) fn not_a(value: &Spanned<DeValue<'_>>, key: &str, what: impl Display) -> Problem {
    let is = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Problem::error(key, value.span(), format!("`{}` must be {what}", last(key)))
        .label(format!("this is {is}"))
}

/// A problem: the key is known, and refused.
pub(super) fn not_served(full_key: &str, span: Range<usize>, instead: &str) -> Problem {
    Problem::error(full_key, span, format!("`{}` is not served yet", last(full_key)))
        .label("refused, so that nothing is silently ignored")
        .help(instead)
}

/// A problem: there is no such key in `[table]`.
pub(super) fn unknown_key<T: Table>(table: &str, key: &str, span: Range<usize>) -> Problem {
    let place = if table.is_empty() { "at the top level".to_owned() } else { format!("in [{table}]") };
    let problem = Problem::error(&join(table, key), span, format!("unknown key `{key}` {place}"));
    let allowed = format!("allowed here: {}", T::KEYS.join(", "));
    let known = T::KEYS.iter().copied().chain(T::LATER.iter().map(|(later, _)| *later));
    if let Some(near) = nearest(key, known).or_else(|| called_elsewhere(key, T::KEYS)) {
        return problem.label(format!("did you mean `{near}`?")).help(allowed);
    }
    match super::raw::tables_with(key) {
        Some(elsewhere) => {
            problem.label("not here").help(format!("`{key}` belongs in {elsewhere}; {allowed}"))
        }
        None => problem.label("no such key").help(allowed),
    }
}

/// Makes a table type of `raw`, its reader and its schema.
macro_rules! table {
    (
        $(#[$meta:meta])*
        struct $name:ident {
            $( $(#[$field_meta:meta])* $field:ident : $type:ty $(= $default:expr)? , )*
        }
        later { $( $later:ident => $instead:literal , )* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Default, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub(in crate::config) struct $name {
            $(
                $(#[$field_meta])*
                #[schemars(default $(, extend("default" = $default))?)]
                pub(in crate::config) $field: $crate::config::read::Given<$type>,
            )*
        }

        impl $crate::config::read::Table for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($field)),*];
            const LATER: &'static [(&'static str, &'static str)] = &[$((stringify!($later), $instead)),*];

            fn read_table(
                table: &toml::de::DeTable<'_>,
                parent: &str,
                problems: &mut $crate::config::read::Problems<'_>,
            ) -> Self {
                use $crate::config::read::{in_file_order, join, unknown_key, Read};
                let mut this = Self::default();
                for (key, value) in in_file_order(table) {
                    let full = join(parent, key.get_ref());
                    match key.get_ref().as_ref() {
                        $(stringify!($field) => this.$field = Read::read_given(value, &full, problems),)*
                        $(stringify!($later) => problems.push($crate::config::read::not_served(&full, key.span(), $instead)),)*
                        unknown => problems.push(unknown_key::<Self>(parent, unknown, key.span())),
                    }
                }
                this
            }
        }
    };
}

/// Makes a type that is one of a few words.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $word:literal , )* }
        later { $( $later:literal => $instead:literal , )* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in crate::config) enum $name { $( $(#[$variant_meta])* $variant, )* }

        impl $name {
            /// The words that are served.
            pub(in crate::config) const WORDS: &'static [&'static str] = &[$($word),*];
            /// Words that are known but refused for now, and what to do meanwhile.
            pub(in crate::config) const LATER: &'static [(&'static str, &'static str)] = &[$(($later, $instead)),*];
        }

        impl $crate::config::read::Read for $name {
            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                key: &str,
                problems: &mut $crate::config::read::Problems<'_>,
            ) -> Option<Self> {
                let word = $crate::config::read::read_word(value, key, Self::WORDS, Self::LATER, problems)?;
                match word {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": Self::WORDS })
            }
        }
    };
}

pub(super) use {choice, table};

/// One of `words`, or a note of what is wrong.
pub(super) fn read_word(
    value: &Spanned<DeValue<'_>>,
    key: &str,
    words: &[&'static str],
    later: &[(&'static str, &'static str)],
    problems: &mut Problems<'_>,
) -> Option<&'static str> {
    let allowed = || words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let Some(text) = value.get_ref().as_str() else {
        problems.push(not_a(value, key, "a string").help(format!("allowed: {}", allowed())));
        return None;
    };
    if let Some(word) = words.iter().find(|word| **word == text) {
        return Some(word);
    }
    if let Some((word, instead)) = later.iter().find(|(word, _)| *word == text) {
        let message = format!("`{} = \"{word}\"` is not served yet", last(key));
        problems.push(
            Problem::error(key, value.span(), message)
                .label("refused, so that nothing is silently ignored")
                .help(format!("{instead}; allowed for now: {}", allowed())),
        );
        return None;
    }
    let near = nearest(text, words.iter().copied().chain(later.iter().map(|(word, _)| *word)));
    let label = near.map_or_else(|| "no such choice".to_owned(), |near| format!("did you mean \"{near}\"?"));
    problems.push(
        Problem::error(key, value.span(), format!("`{}` cannot be \"{text}\"", last(key)))
            .label(label)
            .help(format!("allowed: {}", allowed())),
    );
    None
}

impl Read for bool {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        let read = value.get_ref().as_bool();
        if read.is_none() {
            problems.push(not_a(value, key, "true or false").help("write true or false, without quotes"));
        }
        read
    }
}

impl Read for u64 {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        if let Some(integer) = value.get_ref().as_integer() {
            let read = Self::from_str_radix(integer.as_str(), integer.radix()).ok();
            if read.is_none() {
                let message = format!("`{}` must be a whole number, 0 or more", last(key));
                problems.push(Problem::error(key, value.span(), message).label("out of range"));
            }
            return read;
        }
        let mut problem = not_a(value, key, "a whole number");
        if value.get_ref().as_str().is_some_and(|text| text.parse::<Self>().is_ok()) {
            problem = problem.help("write it without quotes");
        }
        problems.push(problem);
        None
    }
}

impl Read for String {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        let Some(text) = value.get_ref().as_str() else {
            let problem = not_a(value, key, "a string");
            let written = problems.text(&value.span());
            let is_short = written.len() <= 40 && !written.contains(['"', '\n', '{', '[']);
            if let Some(example) = example(last(key)) {
                problems.push(problem.help(format!("write {example}")));
                return None;
            }
            problems.push(if is_short { problem.help(format!("write \"{written}\"")) } else { problem });
            return None;
        };
        Some(text.to_owned())
    }
}

/// The elements of a list, in order.
impl<T: Read> Read for Vec<Spot<T>> {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        let Some(list) = value.get_ref().as_array() else {
            let mut problem = not_a(value, key, "a list");
            if let Some(text) = value.get_ref().as_str() {
                let words: Vec<String> = text.split_whitespace().map(|word| format!("\"{word}\"")).collect();
                problem = problem.help(format!("write [{}]", words.join(", ")));
            } else if let Some(example) = example(last(key)) {
                problem = problem.help(format!("write {example}"));
            } else if value.get_ref().is_table() {
                problem = problem.help(format!("write [[{key}]] with double brackets, once for each"));
            } else {
                problem = problem.help(format!("write [{}]", problems.text(&value.span())));
            }
            problems.push(problem);
            return None;
        };
        let read: Vec<Option<Spot<T>>> = list
            .iter()
            .map(|element| Some(Spot { value: T::read(element, key, problems)?, span: element.span() }))
            .collect();
        read.into_iter().collect()
    }
}

/// A table with keys of the user's choosing, in the order of the file; each with the key's place and the value's,
/// which is its header for a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named<T>(pub(super) Vec<(Spot<String>, Spot<T>)>);

impl<T: Read> Read for Named<T> {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        let table = as_table(value, key, problems)?;
        let mut entries = Vec::new();
        let mut is_whole = true;
        for (name, value) in in_file_order(table) {
            let spot = Spot { value: name.get_ref().to_string(), span: name.span() };
            match T::read(value, &join(key, name.get_ref()), problems) {
                Some(read) => entries.push((spot, Spot { value: read, span: value.span() })),
                None => is_whole = false,
            }
        }
        is_whole.then_some(Self(entries))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        format!("Named<{}>", T::schema_id()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}
