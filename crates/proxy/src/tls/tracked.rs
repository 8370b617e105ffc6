//! One pair of files over time: what of them is in use, and what is wrong with them.
//!
//! ```text
//!  good ──files changed──► examined ──good──► good (replaced)
//!                             │ bad
//!                             ▼
//!                          doubtful ──the same at the next look──► bad: told once for each distinct problem
//! ```
//! Two files are never replaced at one moment, so what is wrong with them is told only once they rest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::file::Stamp;
use wire::routes::CertificateFiles;
use zeroize::Zeroizing;

use super::pair::{Pair, time_left};

/// A certificate that ends within this is spoken of.
const EXPIRES_SOON_MS: u64 = 14 * DAY_MS;
const DAY_MS: u64 = 24 * 3_600_000;

/// What is to be told of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// What is wrong; `None`: what is there is good and in use.
    pub(crate) error: Option<String>,
    /// The end of what is in use.
    pub(crate) not_after_ms: Option<u64>,
}

/// What the files looked like.
type Stamps = [Option<Stamp>; 2];

/// One pair of files.
#[derive(Debug)]
pub(crate) struct Tracked {
    files: CertificateFiles,
    /// Where the last good pair is kept.
    copy: Option<PathBuf>,
    /// What they looked like when they were examined last.
    stamps: Stamps,
    /// In use.
    pub(crate) pair: Option<Arc<Pair>>,
    /// What was wrong with them when they were examined last, not told yet.
    doubt: Option<String>,
    /// What is wrong with them, and was told.
    problem: Option<String>,
    expiry_told_ms: Option<u64>,
}

impl Tracked {
    /// Reads them for the first time; what is to be told at once.
    pub(crate) fn open(files: &CertificateFiles, copies: Option<&Path>, now_ms: u64) -> (Self, Option<News>) {
        let copy = copies.map(|directory| directory.join(copy_name(files)));
        let mut tracked = Self {
            files: files.clone(),
            copy,
            stamps: stamps_of(files),
            pair: None,
            doubt: None,
            problem: None,
            expiry_told_ms: None,
        };
        match tracked.examine() {
            Ok(()) => {
                let news = tracked.speak_of_expiry(now_ms);
                (tracked, news)
            }
            Err(why) => {
                tracked.pair = tracked.read_copy().map(Arc::new);
                let news = tracked.tell(why);
                (tracked, Some(news))
            }
        }
    }

    /// Looks whether they changed; what is to be told, and whether another pair is in use now.
    pub(crate) fn look(&mut self, now_ms: u64) -> (Option<News>, bool) {
        let stamps = stamps_of(&self.files);
        if stamps == self.stamps {
            let told = self.doubt.take().map(|why| self.tell(why));
            return (told.or_else(|| self.speak_of_expiry(now_ms)), false);
        }
        self.stamps = stamps;
        match self.examine() {
            Ok(()) => {
                self.expiry_told_ms = None;
                (Some(News { error: None, not_after_ms: self.not_after_ms() }), true)
            }
            Err(why) => {
                self.doubt = (self.problem.as_ref() != Some(&why)).then_some(why);
                (None, false)
            }
        }
    }

    /// Reads them, and takes them into use when they are good.
    fn examine(&mut self) -> Result<(), String> {
        let (pair, text) = Pair::read(&self.files).map_err(|bad| bad.to_string())?;
        self.pair = Some(Arc::new(pair));
        (self.doubt, self.problem) = (None, None);
        if let Some(copy) = &self.copy
            && let Err(error) = host::file::replace_private(copy, &text)
        {
            tracing::warn!(certificate = self.files.certificate, %error, "no copy of a certificate can be kept");
        }
        Ok(())
    }

    fn read_copy(&self) -> Option<Pair> {
        let text = Zeroizing::new(std::fs::read(self.copy.as_ref()?).ok()?);
        Pair::parse(&self.files, &text, &text).ok()
    }

    fn tell(&mut self, why: String) -> News {
        let error = self.described(&why);
        tracing::warn!(certificate = self.files.certificate, problem = error, "a certificate cannot be used");
        self.problem = Some(why);
        News { error: Some(error), not_after_ms: self.not_after_ms() }
    }

    fn described(&self, why: &str) -> String {
        match self.pair {
            Some(_) => format!("{why}; the last good one goes on"),
            None => format!("{why}; there is none to use instead"),
        }
    }

    /// Once a day while it ends soon, or has ended.
    fn speak_of_expiry(&mut self, now_ms: u64) -> Option<News> {
        let not_after_ms = self.not_after_ms()?;
        let is_due = self.expiry_told_ms.is_none_or(|told| now_ms.saturating_sub(told) >= DAY_MS);
        if !is_soon(not_after_ms, now_ms) || !is_due {
            return None;
        }
        self.expiry_told_ms = Some(now_ms);
        let when = time_left(not_after_ms, now_ms);
        tracing::warn!(certificate = self.files.certificate, when, "a certificate is to be renewed");
        Some(News { error: Some(when), not_after_ms: Some(not_after_ms) })
    }

    fn not_after_ms(&self) -> Option<u64> {
        self.pair.as_ref().map(|pair| pair.not_after_ms)
    }
}

/// Whether that end is near enough to be spoken of.
pub(crate) fn is_soon(not_after_ms: u64, now_ms: u64) -> bool {
    not_after_ms <= now_ms.saturating_add(EXPIRES_SOON_MS)
}

fn stamps_of(files: &CertificateFiles) -> Stamps {
    [&files.certificate, &files.key].map(|path| host::file::stamp(Path::new(path)).ok())
}

/// The name of the copy of a pair.
pub(crate) fn copy_name(files: &CertificateFiles) -> String {
    format!("{}.pem", host::paths::long_hash(&format!("{}\0{}", files.certificate, files.key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pair::tests::pem;

    /// The first of January 2000.
    const END_MS: u64 = 946_684_800_000;

    fn write(folder: &tempfile::TempDir, year: i32) -> CertificateFiles {
        let (certificate, key) = pem(&["a.example"], year);
        let at = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        CertificateFiles { certificate: at("c.pem", &certificate), key: at("k.pem", &key) }
    }

    #[test]
    fn a_certificate_that_ends_soon_is_spoken_of_once_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(&folder, 2_000);
        let start = END_MS - 15 * DAY_MS;
        let (mut tracked, news) = Tracked::open(&files, None, start);
        assert_eq!(news, None);
        assert_eq!(tracked.look(start), (None, false));
        let soon = News { error: Some("it expires in 14 days".into()), not_after_ms: Some(END_MS) };
        assert_eq!(tracked.look(start + DAY_MS), (Some(soon), false));
        assert_eq!(tracked.look(start + DAY_MS * 2 - 1), (None, false));
        assert!(tracked.look(start + DAY_MS * 2).0.is_some());
        // A new one is good news.
        write(&folder, 2_010);
        let (news, is_new) = tracked.look(start + DAY_MS * 3);
        assert!(is_new && news.unwrap().error.is_none());
        assert_eq!(tracked.look(start + DAY_MS * 3), (None, false));
    }

    #[test]
    fn a_problem_is_told_when_the_files_rest_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(&folder, 2_050);
        let (mut tracked, _) = Tracked::open(&files, None, END_MS);
        std::fs::write(&files.certificate, "half").unwrap();
        assert_eq!(tracked.look(END_MS), (None, false));
        let (news, is_new) = tracked.look(END_MS);
        assert!(!is_new && news.unwrap().error.unwrap().contains("no certificate"));
        assert_eq!(tracked.look(END_MS), (None, false));
        assert!(tracked.pair.is_some(), "the last good one goes on");
        // Half-way through being replaced nothing is told.
        std::fs::write(&files.certificate, "another half").unwrap();
        assert_eq!(tracked.look(END_MS), (None, false));
        write(&folder, 2_060);
        let (news, is_new) = tracked.look(END_MS);
        assert!(is_new && news.unwrap().error.is_none());
    }

    #[test]
    fn the_copy_of_the_last_good_pair_is_used_while_the_files_are_bad() {
        let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = write(&folder, 2_050);
        drop(Tracked::open(&files, Some(copies.path()), END_MS));
        std::fs::remove_file(&files.key).unwrap();
        let (tracked, news) = Tracked::open(&files, Some(copies.path()), END_MS);
        let error = news.unwrap().error.unwrap();
        assert!(
            error.contains("k.pem cannot be read") && error.ends_with("the last good one goes on"),
            "{error}"
        );
        assert!(tracked.pair.is_some());
        let (tracked, news) = Tracked::open(&files, None, END_MS);
        assert!(
            tracked.pair.is_none() && news.unwrap().error.unwrap().ends_with("there is none to use instead")
        );
    }
}
