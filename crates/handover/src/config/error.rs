//! What is wrong with a manifest, or doubtful in it: each with its place in the text, and what to do.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};
use serde_json::json;

/// Columns a report is wrapped at.
const REPORT_WIDTH: usize = 110;

/// Why there is no checked manifest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// No file where one is looked for.
    #[error("no manifest: looked for {}", show_paths(.0))]
    NotFound(Vec<PathBuf>),
    /// The file is there, or was named, but cannot be read.
    #[error("{} cannot be read: {why}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// Read, and wrong.
    #[error("{} has {}", .0.path.display(), count(.0.problems.len(), "error"))]
    Wrong(Report),
}

fn show_paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
}

/// `1 error`, `2 errors`.
pub(crate) fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Nothing starts with it.
    Error,
    /// It may be meant.
    Warning,
}

/// One thing that is wrong or doubtful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// How much it matters.
    pub(crate) severity: Severity,
    /// What it is about, such as `listener.web.bind`; empty for the text as a whole.
    pub(crate) key: String,
    /// One sentence.
    pub(crate) message: String,
    /// The place, then others that belong to it, each with what to say under it.
    pub(crate) labels: Vec<(Range<usize>, String)>,
    /// What to do.
    pub(crate) help: Option<String>,
}

impl Problem {
    /// An error about `key`, at `span`.
    pub(crate) fn error(key: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { labels: vec![(span, String::new())], ..Self::placeless(key, message) }
    }

    /// An error about what is not in the text.
    pub(crate) fn placeless(key: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            key: key.to_owned(),
            message: message.into(),
            labels: Vec::new(),
            help: None,
        }
    }

    /// A warning about `key`, at `span`.
    pub(crate) fn warning(key: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(key, span, message) }
    }

    /// What to say under the place.
    pub(crate) fn label(mut self, text: impl Into<String>) -> Self {
        if let Some((_, label)) = self.labels.first_mut() {
            *label = text.into();
        }
        self
    }

    /// Another place that belongs to it.
    pub(crate) fn and(mut self, span: Range<usize>, text: impl Into<String>) -> Self {
        self.labels.push((span, text.into()));
        self
    }

    /// What to do.
    pub(crate) fn help(self, text: impl Into<String>) -> Self {
        Self { help: Some(text.into()), ..self }
    }
}

/// Problems with the text they are about.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its text.
    pub(crate) source: String,
    /// In the order of the file.
    pub(crate) problems: Vec<Problem>,
}

impl Report {
    /// Sorts by place, so that people go through the file once.
    pub(crate) fn new(path: &Path, source: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.labels.first().map(|(span, _)| (span.start, span.end)));
        Self { path: path.to_owned(), source: source.to_owned(), problems }
    }

    /// For people: each problem with its line underlined.
    pub(crate) fn render(&self, style: ReportStyle) -> String {
        let theme = match style {
            ReportStyle::Plain => GraphicalTheme::none(),
            ReportStyle::Colour => GraphicalTheme::unicode(),
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(REPORT_WIDTH)
            .with_links(false)
            .with_context_lines(1);
        let mut text = String::new();
        for problem in &self.problems {
            let source = NamedSource::new(self.path.display().to_string(), self.source.clone());
            let shown = Shown { problem, source };
            if handler.render_report(&mut text, &shown).is_err() {
                // Writing to a String fails only where the source cannot be read at a label's place.
                text.push_str(&problem.message);
            }
            text.push('\n');
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        self.problems
            .iter()
            .map(|problem| {
                let span = problem.labels.first().map(|(span, _)| span.clone());
                let (line, column) = span.as_ref().map(|span| self.line_and_column(span.start)).unzip();
                json!({
                    "key": problem.key,
                    "message": problem.message,
                    "help": problem.help,
                    "line": line,
                    "column": column,
                    "text": span.and_then(|span| self.source.get(span)),
                })
            })
            .collect()
    }

    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.source.get(..offset).unwrap_or(&self.source);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// How a report looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportStyle {
    /// ASCII, no colour: for files and pipes.
    Plain,
    /// For terminals.
    Colour,
}

/// A problem as miette wants it.
struct Shown<'a> {
    problem: &'a Problem,
    source: NamedSource<String>,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        (!self.problem.labels.is_empty()).then_some(&self.source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.problem.labels.iter().map(|(span, text)| {
            let text = (!text.is_empty()).then(|| text.clone());
            LabeledSpan::new(text, span.start, span.len())
        })))
    }
}
