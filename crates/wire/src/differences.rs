//! Which keys of a manifest differ from those that hold, as the file would name them.
//!
//! It deliberately says nothing about their values: some of them are secrets.

use serde_json::Value;

use crate::manifest::Manifest;

/// The keys whose values differ, in order; a key that only one of the two has is named once.
pub fn differences(holds: &Manifest, given: &Manifest) -> Vec<String> {
    let tree = |manifest| serde_json::to_value(manifest).unwrap_or(Value::Null);
    let mut keys = Vec::new();
    walk("", &tree(holds), &tree(given), &mut keys);
    keys.retain(|key| !key.ends_with("_is_default") && !key.ends_with(".version_is_derived"));
    keys.dedup();
    keys
}

fn walk(path: &str, holds: &Value, given: &Value, keys: &mut Vec<String>) {
    match (holds, given) {
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => walk(&below, a, b, keys),
                    _ => keys.push(file_key(&below)),
                }
            }
        }
        (a, b) if a == b => {}
        _ => keys.push(file_key(path)),
    }
}

/// As the manifest's file calls it.
fn file_key(path: &str) -> String {
    let units = ["_ms", "_s", "_percent", "_milli"];
    let path = units.iter().find_map(|unit| path.strip_suffix(unit)).unwrap_or(path);
    let whole = match path {
        "admin_bind" => "admin.bind",
        "proxy_threads" => "proxy.threads",
        "access_log" => "proxy.access_log",
        "instance_ports" => "instances.ports",
        "routes" => "route",
        other => other,
    };
    if whole.starts_with("access_log_settings") {
        return "proxy.access_log".to_owned();
    }
    let renamed = match whole.split_once('.') {
        Some(("fronted", rest)) => format!("service.{}", rest.replacen(".probe", ".readiness", 1)),
        Some(("services", rest)) => format!("service.{rest}"),
        Some(("listeners", rest)) => format!("listener.{rest}"),
        _ => whole.to_owned(),
    };
    // What has one form in the file is several values here.
    for (value, key) in [
        (".readiness.check", ".readiness"),
        (".readiness.http_path", ".readiness"),
        (".liveness.check", ".liveness"),
        (".reload.by", ".reload"),
        (".balance.algorithm", ".balance.algorithm"),
        (".rollout.sticky", ".rollout.sticky"),
    ] {
        if let Some((service, _)) = renamed.split_once(value) {
            return format!("{service}{key}");
        }
    }
    renamed.replace(".limits_", ".limits.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_traffic_are_named_as_the_file_names_them() {
        for (path, key) in [
            ("access_log_settings.sample", "proxy.access_log"),
            ("listeners.web.trusted_proxies", "listener.web.trusted_proxies"),
            ("fronted.api.endpoints", "service.api.endpoints"),
            ("fronted.api.probe", "service.api.readiness"),
            ("fronted.api.probe.http_path", "service.api.readiness"),
            ("fronted.api.probe.interval_ms", "service.api.readiness.interval"),
            ("services.a.upstream.request_timeout_ms", "service.a.upstream.request_timeout"),
            ("services.a.retry.budget_percent", "service.a.retry.budget"),
            ("services.a.outlier.success_rate_stdev_milli", "service.a.outlier.success_rate_stdev"),
            ("services.a.maintenance.retry_after_s", "service.a.maintenance.retry_after"),
            ("services.a.balance.algorithm.hash.header", "service.a.balance.algorithm"),
            ("services.a.rollout.sticky.cookie.max_age_s", "service.a.rollout.sticky"),
        ] {
            assert_eq!(file_key(path), key);
        }
    }

    #[test]
    fn keys_are_named_as_the_file_names_them() {
        let manifest = |ports: &str, service: &str| {
            let text = format!(
                r#"{{"state_dir": "/s", "admin_bind": "127.0.0.1:1", "admin_bind_is_default": false, "proxy_threads": 1,
                "instance_ports": {ports}, "listeners": {{}}, "routes": [], "services": {{"shop": {{"release": "/r",
                "version": "1", "command": ["./shop"], "instances": 1, "environment": [], "environment_inherit": [],
                "readiness": {service}, "stop": {{"signal": "graceful", "drain_timeout_ms": 1, "grace_period_ms": 1}},
                "restart": {{"policy": "always", "delay_ms": 1, "max_delay_ms": 1, "reset_after_ms": 1}},
                "upstream": {{"connect_timeout_ms": 1, "response_timeout_ms": 1, "idle_reuse_ms": 1}},
                "rollout": {{"strategy": "blue-green", "keep_warm_ms": 1}}}}}}}}"#
            );
            serde_json::from_str::<Manifest>(&text).unwrap()
        };
        let readiness = |check: &str, interval: u64| {
            format!(
                r#"{{"check": {check}, "interval_ms": {interval}, "timeout_ms": 1, "rise": 1, "fall": 1, "startup_timeout_ms": 1}}"#
            )
        };
        let holds = manifest("[1, 2]", &readiness("\"tcp\"", 1));
        assert_eq!(differences(&holds, &holds), Vec::<String>::new());
        let given = manifest("[1, 3]", &readiness("{\"http\": \"/\"}", 2));
        let keys = ["instances.ports", "service.shop.readiness", "service.shop.readiness.interval"];
        assert_eq!(differences(&holds, &given), keys);
    }
}
