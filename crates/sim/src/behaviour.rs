//! How the processes of a release behave.

use std::time::Duration;

/// What a process of a release does. The default is a good service that is ready after 200 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// From its start until it answers its check; `None`: never.
    pub ready_after: Option<Duration>,
    /// It exits with code 1 that long after its start.
    pub exits_after: Option<Duration>,
    /// From the signal to its exit; `None`: it ignores the signal.
    pub stops_after: Option<Duration>,
    /// Its program cannot be started.
    pub spawn_fails: bool,
    /// Its directory is refused.
    pub refused: bool,
    /// It listens on another port than it was given.
    pub elsewhere: Option<u16>,
    /// Of ten seconds after it is ready it fails its check for the last so many.
    pub unready_of_ten: u64,
    /// It does not know SIGHUP.
    pub dies_at_reload: bool,
    /// Its hooks exit with 1.
    pub hooks_fail: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            ready_after: Some(Duration::from_millis(200)),
            exits_after: None,
            stops_after: Some(Duration::from_millis(50)),
            spawn_fails: false,
            refused: false,
            elsewhere: None,
            unready_of_ten: 0,
            dies_at_reload: false,
            hooks_fail: false,
        }
    }
}

impl Behaviour {
    /// Whether a rollout to it can succeed, and what is promoted stays up.
    pub fn is_good(&self) -> bool {
        let ready = self.ready_after.is_some_and(|after| after < Duration::from_secs(4));
        ready
            && !self.hooks_fail
            && self.exits_after.is_none()
            && !self.spawn_fails
            && !self.refused
            && self.elsewhere.is_none()
    }

    /// Reads `ready=300ms exits=2s ignores-signal …`.
    ///
    /// # Errors
    /// Names the word that is not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut behaviour = Self::default();
        for word in text.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "ready" => behaviour.ready_after = Some(duration(value)?),
                "never-ready" => behaviour.ready_after = None,
                "exits" => behaviour.exits_after = Some(duration(value)?),
                "stops" => behaviour.stops_after = Some(duration(value)?),
                "ignores-signal" => behaviour.stops_after = None,
                "spawn-fails" => behaviour.spawn_fails = true,
                "refused" => behaviour.refused = true,
                "elsewhere" => behaviour.elsewhere = Some(number(value)?),
                "dies-at-reload" => behaviour.dies_at_reload = true,
                "hooks-fail" => behaviour.hooks_fail = true,
                "unready" => behaviour.unready_of_ten = number(value)?,
                _ => return Err(format!("`{word}` is no behaviour")),
            }
        }
        Ok(behaviour)
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().ok().ok_or_else(|| format!("`{text}` is no number"))
}

/// Reads `300ms`, `2s` or `10m`.
///
/// # Errors
/// When it is none of these.
pub fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000)];
    let found = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (count, factor) = found.ok_or_else(|| format!("`{text}` is no duration"))?;
    Ok(Duration::from_millis(number::<u64>(count)? * factor))
}
