//! `environment_file`: lines of `NAME=value`, as systemd reads them.
//!
//! ```text
//!  # a comment, ; too
//!  export NAME=value             spaces around the value go
//!  NAME="a \"b\" c"              \ keeps the next character; \ at the end of a line joins it with the next
//!  NAME='as it is \ # $'         quotes may go over several lines
//! ```
//! Nothing is expanded in it. What is wrong is said with the file and the line, never with what stands there: these
//! files hold secrets.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the file says; of a name that comes twice, the last.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let shown = path.display();
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)).map_err(|error| {
        match error.kind() {
            io::ErrorKind::NotFound => format!(
                "the environment file {shown} is not there; make it, or take `environment_file` out of the manifest"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "the environment file {shown} cannot be read by the user that Handover runs as: {error}"
            ),
            _ => format!("the environment file {shown} cannot be read: {error}"),
        }
    })?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("the environment file {shown} is longer than {FILE_BYTES_MAX} bytes"));
    }
    parse(&text).map_err(|(line, why)| format!("the environment file {shown}, line {line}: {why}"))
}

/// Why not, with the number of the line.
type Refused = (usize, &'static str);

struct Reader<'a> {
    rest: std::str::Chars<'a>,
    line: usize,
}

impl Iterator for Reader<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        if next == Some('\n') {
            self.line += 1;
        }
        next
    }
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, String>, Refused> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        (1 + before.iter().filter(|byte| **byte == b'\n').count(), "it is not UTF-8")
    })?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text).replace("\r\n", "\n");
    if let Some(at) = text.find('\0') {
        return Err((1 + text[..at].matches('\n').count(), "a NUL cannot be in a variable"));
    }
    let mut variables = BTreeMap::new();
    let mut reader = Reader { rest: text.chars(), line: 1 };
    while !reader.rest.as_str().is_empty() {
        let line = reader.rest.as_str().split('\n').next().unwrap_or_default().trim_start();
        if line.is_empty() || line.starts_with(['#', ';']) {
            reader.by_ref().find(|character| *character == '\n');
            continue;
        }
        let name = name(&mut reader)?;
        let value = value(&mut reader)?;
        variables.insert(name, value);
    }
    Ok(variables)
}

fn name(reader: &mut Reader<'_>) -> Result<String, Refused> {
    let line = reader.line;
    let rest = reader.rest.as_str();
    let first = rest.split('\n').next().unwrap_or_default();
    let (before, _) = first.split_once('=').ok_or((line, "there is no `=`; write NAME=value"))?;
    let used = before.len() + 1;
    let word = before.trim_start();
    let word = word.strip_prefix("export ").unwrap_or(word).trim_start();
    if word.is_empty() {
        return Err((line, "there is no name before `=`"));
    }
    if word.ends_with(char::is_whitespace) {
        return Err((line, "there is a space before `=`; write NAME=value"));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !word.chars().all(is_name) || word.starts_with(|c: char| c.is_ascii_digit()) {
        return Err((line, "what stands before `=` is not a name: use a-z, A-Z, 0-9 and `_`"));
    }
    reader.rest = rest[used..].chars();
    Ok(word.to_owned())
}

fn value(reader: &mut Reader<'_>) -> Result<String, Refused> {
    let mut value = String::new();
    // Spaces at the end go, those that were quoted stay.
    let mut kept = 0;
    while let Some(character) = reader.next() {
        let line = reader.line;
        match character {
            '\n' => break,
            '\'' => {
                loop {
                    match reader.next() {
                        Some('\'') => break,
                        Some(other) => value.push(other),
                        None => return Err((line, "the quote that begins here does not end")),
                    }
                }
                kept = value.len();
            }
            '"' => {
                quoted(reader, &mut value).ok_or((line, "the quote that begins here does not end"))?;
                kept = value.len();
            }
            '\\' => {
                match reader.next() {
                    Some('\n') | None => {}
                    Some(other) => value.push(other),
                }
                kept = value.len();
            }
            space if space.is_whitespace() => {
                if !value.is_empty() {
                    value.push(space);
                }
            }
            other => {
                value.push(other);
                kept = value.len();
            }
        }
    }
    value.truncate(kept);
    Ok(value)
}

/// To the closing `"`.
fn quoted(reader: &mut Reader<'_>, value: &mut String) -> Option<()> {
    loop {
        match reader.next()? {
            '"' => return Some(()),
            '\\' => match reader.next()? {
                '\n' => {}
                plain @ ('"' | '\\' | '$' | '`') => value.push(plain),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> String {
        let variables = parse(line.as_bytes()).unwrap();
        assert_eq!(variables.len(), 1, "{line}");
        variables["X"].clone()
    }

    #[test]
    fn values_read_as_systemd_reads_them() {
        for (line, value) in [
            ("X=1", "1"),
            ("X=", ""),
            ("  export X=a b \t", "a b"),
            ("X= a", "a"),
            ("X=a#b # c", "a#b # c"),
            ("X='a \\ # $B'", "a \\ # $B"),
            ("X=\"a \\\"b\\\" \\$c \\n\"", "a \"b\" $c \\n"),
            ("X=a\\ b\\\\", "a b\\"),
            ("X=a\\\nb", "ab"),
            ("X=\"two\nlines\"", "two\nlines"),
            ("X=' kept '", " kept "),
            ("X=a' 'b", "a b"),
            ("\u{FEFF}X=1\r\n", "1"),
            ("X=${Y}=z", "${Y}=z"),
        ] {
            assert_eq!(one(line), value, "{line}");
        }
    }

    #[test]
    fn comments_and_empty_lines_say_nothing_and_the_last_of_a_name_counts() {
        let variables = parse(b"# A=1\n\n ; B=2\nC=3\n  # D=4\nC=5").unwrap();
        assert_eq!(variables, BTreeMap::from([("C".to_owned(), "5".to_owned())]));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_never_with_what_stands_there() {
        for (text, line) in [
            ("A=1\ns3cret", 2),
            ("A=1\n\ns3cret = 1", 3),
            ("=s3cret", 1),
            ("3cret=s3cret", 1),
            ("s3-cret=s3cret", 1),
            ("A='1\n2'\nB=\"s3cret\n", 3),
            ("A=\0s3cret", 1),
        ] {
            let (at, why) = parse(text.as_bytes()).unwrap_err();
            assert_eq!(at, line, "{text}");
            assert!(!why.contains("s3cret"), "{why}");
        }
        assert_eq!(parse(b"A=1\nB=\xFF").unwrap_err().0, 2);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.env");
        assert!(read(&path).unwrap_err().contains("secrets.env is not there"));
        std::fs::write(&path, "A=1\ns3cret\n").unwrap();
        let error = read(&path).unwrap_err();
        assert!(
            error.contains("secrets.env, line 2: there is no `=`") && !error.contains("s3cret"),
            "{error}"
        );
    }
}
