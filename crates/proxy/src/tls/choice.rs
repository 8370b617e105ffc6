//! Which certificate a client gets: the first whose names fit the one it asks for, else the first of all.
//!
//! An exact name goes before a wildcard, and of two for one name one that the client can check goes first. A wildcard
//! stands for one label.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pair::Pair;

/// The pairs of one listener by name.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    first: Vec<Arc<CertifiedKey>>,
    exact: BTreeMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what stands behind `*.`.
    wildcard: BTreeMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Choice {
    /// Of these, in their order.
    pub(crate) fn new<'a>(pairs: impl Iterator<Item = &'a Arc<Pair>>) -> Self {
        let mut choice = Self::default();
        for pair in pairs {
            for name in &pair.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut choice.wildcard, parent),
                    None => (&mut choice.exact, name.as_str()),
                };
                names.entry(name.to_owned()).or_default().push(pair.certified.clone());
            }
            choice.first.push(pair.certified.clone());
        }
        choice
    }

    /// The certificate for that name, of which the client can check one that `fits`.
    fn choose(&self, name: Option<&str>, fits: impl Fn(&CertifiedKey) -> bool) -> Option<&Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let found = name.as_deref().and_then(|name| {
            let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
            self.exact.get(name).or_else(parent)
        });
        match found {
            Some(found) => found.iter().find(|one| fits(one)).or(found.first()),
            None => self.first.first(),
        }
    }
}

/// The choice of one listener as it is now.
#[derive(Debug, Default)]
pub(crate) struct Chooser(RwLock<Arc<Choice>>);

impl Chooser {
    /// Handshakes that begin from now on use this.
    pub(crate) fn set(&self, choice: Choice) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(choice);
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let choice = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let fits = |one: &CertifiedKey| one.key.choose_scheme(hello.signature_schemes()).is_some();
        choice.choose(hello.server_name(), fits).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pair::tests::pair;

    fn choice(names: &[&[&str]]) -> (Choice, Vec<Arc<CertifiedKey>>) {
        let pairs: Vec<_> = names.iter().map(|names| Arc::new(pair(names, 2_000))).collect();
        (Choice::new(pairs.iter()), pairs.iter().map(|pair| pair.certified.clone()).collect())
    }

    #[test]
    fn an_exact_name_goes_before_a_wildcard_and_a_wildcard_is_one_label() {
        let (choice, all) =
            choice(&[&["a.example"], &["*.shop.example"], &["one.shop.example", "b.example"]]);
        for (name, expected) in [
            (Some("one.shop.example"), 2),
            (Some("ONE.shop.example"), 2),
            (Some("two.shop.example"), 1),
            (Some("b.example"), 2),
            (Some("a.two.shop.example"), 0),
            (Some("shop.example"), 0),
            (Some("*.shop.example"), 1),
            (Some(""), 0),
            (None, 0),
        ] {
            let chosen = choice.choose(name, |_| true).unwrap();
            assert!(Arc::ptr_eq(chosen, &all[expected]), "{name:?}");
        }
    }

    #[test]
    fn of_two_for_one_name_the_first_that_fits_is_taken() {
        let (choice, all) = choice(&[&["a.example"], &["a.example"]]);
        let second = |one: &CertifiedKey| std::ptr::eq(one, &*all[1]);
        assert!(Arc::ptr_eq(choice.choose(Some("a.example"), second).unwrap(), &all[1]));
        assert!(Arc::ptr_eq(choice.choose(Some("a.example"), |_| false).unwrap(), &all[0]));
        assert!(Choice::default().choose(Some("a.example"), |_| true).is_none());
    }
}
