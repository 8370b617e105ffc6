//! `handover status --json` as tests look at it.

use std::net::SocketAddr;

use serde_json::Value;

/// One look.
#[derive(Debug, Clone)]
pub struct Status(pub Value);

/// One instance in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// `service@version/number`.
    pub id: String,
    /// While it runs.
    pub pid: Option<u32>,
    /// Release.
    pub version: String,
    /// `ready`, `warm`, …
    pub state: String,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// Starts after the first.
    pub restarts: u64,
}

fn pid(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|pid| u32::try_from(pid).ok())
}

impl Status {
    /// Process of `holder`, `proxy` or `agent`.
    pub fn pid(&self, role: &str) -> Option<u32> {
        pid(&self.0["processes"][role]["pid"])
    }

    /// Generation of the newest proxy.
    pub fn proxy_generation(&self) -> Option<u64> {
        self.0["processes"]["proxy"]["generation"].as_u64()
    }

    /// Address of a listener.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.0["listeners"][name]["address"].as_str()?.parse().ok()
    }

    /// The promoted release.
    pub fn stable(&self, service: &str) -> Option<String> {
        self.0["services"][service]["stable"].as_str().map(str::to_owned)
    }

    /// The rollout that runs or bakes.
    pub fn rollout(&self, service: &str) -> Option<&Value> {
        Some(&self.0["services"][service]["rollout"]).filter(|rollout| !rollout.is_null())
    }

    /// Phase of the rollout that runs or bakes, else of the last one.
    pub fn phase(&self, service: &str) -> Option<String> {
        let service = &self.0["services"][service];
        let phase = |rollout: &str| service[rollout]["phase"].as_str().map(str::to_owned);
        phase("rollout").or_else(|| phase("last_rollout"))
    }

    /// The last final rollout.
    pub fn last_rollout(&self, service: &str) -> &Value {
        &self.0["services"][service]["last_rollout"]
    }

    /// Its instances.
    pub fn instances(&self, service: &str) -> Vec<Instance> {
        let list = self.0["services"][service]["instances"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let instance = |value: &Value| Instance {
            id: text(&value["id"]),
            pid: pid(&value["pid"]),
            version: text(&value["version"]),
            state: text(&value["state"]),
            address: value["address"].as_str().and_then(|address| address.parse().ok()),
            restarts: value["restarts"].as_u64().unwrap_or(0),
        };
        list.iter().map(instance).collect()
    }

    /// Instances in that state.
    pub fn in_state(&self, service: &str, state: &str) -> Vec<Instance> {
        self.instances(service).into_iter().filter(|instance| instance.state == state).collect()
    }
}
