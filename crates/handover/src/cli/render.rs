//! Text for people: aligned tables, colours, durations, sizes of numbers.
//!
//! It deliberately decides nothing about terminals: whether there is colour is an argument.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

/// Between two columns.
const GAP: &str = "  ";

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it is.
    #[default]
    Plain,
    /// Headings.
    Bold,
    /// What matters less.
    Dim,
    /// Well.
    Green,
    /// On its way, or worth a look.
    Yellow,
    /// Not well.
    Red,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Red => "\x1b[31m",
        }
    }
}

/// `text` in that style, where there is colour.
pub(crate) fn styled(text: &str, style: Style, colour: bool) -> String {
    if !colour || style == Style::Plain || text.is_empty() {
        return text.to_owned();
    }
    format!("{}{text}\x1b[0m", style.code())
}

/// One cell of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell in a style.
    pub(crate) fn new(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Style::Plain)
    }
}

/// Rows under headings, each column as wide as its widest cell.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
    columns: usize,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let row = headings.iter().map(|heading| Cell::new(*heading, Style::Dim)).collect();
        Self { rows: vec![row], columns: headings.len() }
    }

    /// Adds a row; cells that are missing are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut row: Vec<Cell> = cells.into_iter().take(self.columns).collect();
        row.resize_with(self.columns, Cell::default);
        self.rows.push(row);
    }

    /// Whether it has headings only.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The table; no line ends in blanks.
    pub(crate) fn render(&self, colour: bool) -> String {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].text.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let last = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
            for (column, cell) in row[..last].iter().enumerate() {
                text.push_str(&styled(&cell.text, cell.style, colour));
                if column + 1 < last {
                    let padding = widths[column] - cell.text.chars().count();
                    text.extend(std::iter::repeat_n(' ', padding));
                    text.push_str(GAP);
                }
            }
            text.push('\n');
        }
        text
    }
}

/// A duration as people say it: `12 ms`, `0.3 s`, `42 s`, `9 m 50 s`, `10 m`, `2 h 5 m`, `3 d 4 h`.
pub(crate) fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let seconds = duration.as_secs();
    match (millis, seconds) {
        (0..100, _) => format!("{millis} ms"),
        (_, 0..10) => {
            let tenths = millis / 100;
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        (_, 10..60) => format!("{seconds} s"),
        (_, 60..3_600) => two(seconds / 60, "m", seconds % 60, "s"),
        (_, 3_600..86_400) => two(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

/// A duration in milliseconds.
pub(crate) fn millis(millis: u64) -> String {
    duration(Duration::from_millis(millis))
}

/// A duration in microseconds, with one decimal while it is short.
pub(crate) fn micros(micros: u64) -> String {
    if micros < 100_000 {
        let tenths = micros / 100;
        return format!("{}.{} ms", tenths / 10, tenths % 10);
    }
    millis(micros / 1_000)
}

/// A count with its thousands apart: `1,204,331`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 error`, `2 errors`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// `text` cut to `columns`, with `…` where something is missing; line ends become blanks.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    let flat = text.replace(['\n', '\r'], " ");
    if flat.chars().count() <= columns {
        return flat;
    }
    let mut short: String = flat.chars().take(columns.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Lines from a service, indented, without what could steer a terminal.
pub(crate) fn quoted(lines: &[String]) -> String {
    let mut text = String::new();
    for line in lines {
        writeln!(text, "  │ {}", clean(line)).expect("invariant: a String takes all");
    }
    text
}

/// `text` without what could steer a terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

/// A size in bytes: `512 B`, `3.1 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let (mut tenths, mut unit) = (bytes.saturating_mul(10), "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1_024, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

/// Writes to standard output. Nobody is left to tell when it is gone, and a reader that had enough is no error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_people_say_them() {
        for (millis_in, said) in [
            (0, "0 ms"),
            (99, "99 ms"),
            (100, "0.1 s"),
            (349, "0.3 s"),
            (9_990, "9.9 s"),
            (42_000, "42 s"),
            (60_000, "1 m"),
            (590_000, "9 m 50 s"),
            (7_500_000, "2 h 5 m"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(millis(millis_in), said);
        }
        assert_eq!((micros(1_250), micros(250_000)), ("1.2 ms".to_owned(), "0.2 s".to_owned()));
    }

    #[test]
    fn sizes_are_in_the_largest_unit_that_leaves_a_whole_one() {
        for (size, said) in
            [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (6 << 20, "6.0 MiB"), (5 << 40, "5.0 TiB")]
        {
            assert_eq!(bytes(size), said);
        }
    }

    #[test]
    fn numbers_have_their_thousands_apart_and_nouns_their_plural() {
        for (number, said) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_204_331, "1,204,331")] {
            assert_eq!(count(number), said);
        }
        assert_eq!((counted(1, "error"), counted(0, "error")), ("1 error".to_owned(), "0 errors".to_owned()));
    }

    #[test]
    fn columns_are_aligned_and_no_line_ends_in_blanks() {
        let mut table = Table::new(&["NAME", "STATE", "DETAIL"]);
        table.row(["web".into(), Cell::new("ready", Style::Green)]);
        table.row(["longer-name".into(), "x".into(), "why".into()]);
        assert_eq!(
            table.render(false),
            "NAME         STATE  DETAIL\n\
             web          ready\n\
             longer-name  x      why\n"
        );
        assert!(table.render(true).contains("web          \x1b[32mready\x1b[0m\n"));
    }

    #[test]
    fn what_a_service_printed_cannot_steer_the_terminal() {
        assert_eq!(quoted(&["a\x1b[2Jb\r\tc".into()]), "  │ a[2Jb\tc\n");
        assert_eq!(cut("one\ntwo three", 8), "one two…");
    }
}
