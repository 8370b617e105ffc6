//! Under which names requests are counted and shown: made from a table, once per swap.

use std::rc::Rc;

use model::endpoint_groups::{EndpointGroups, TEMPLATES_MAX};
use model::series::{OTHER, SeriesName};
use wire::routes::{Route, RouteTable};

use crate::engine::access_log::field;
use crate::engine::series::Series;

/// Most endpoint groups of all services together; what falls under a further one is in the service's `other`.
pub(crate) const GROUPS_MAX: usize = 512;

/// One endpoint group of a service.
#[derive(Debug)]
pub(crate) struct Group {
    /// Its template, or `other`, as the access log shows it.
    pub(crate) log_field: String,
    /// Its counters.
    pub(crate) series: Rc<Series>,
}

/// The endpoint groups of a service.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    templates: EndpointGroups,
    /// By number; then `other`.
    groups: Vec<Group>,
}

impl Groups {
    /// Groups by `templates`, as far as there is room for them.
    pub(crate) fn new(
        service: &str,
        templates: &[String],
        room: &mut usize,
        series_of: impl Fn(SeriesName) -> Rc<Series>,
    ) -> Self {
        if templates.is_empty() {
            return Self::default();
        }
        let templates = &templates[..templates.len().min(TEMPLATES_MAX).min(*room)];
        *room -= templates.len();
        let names = templates.iter().map(String::as_str);
        let groups = names.clone().chain([OTHER]).map(|group| Group {
            log_field: field("group", group),
            series: series_of(SeriesName::Group { service: service.to_owned(), group: group.to_owned() }),
        });
        Self { groups: groups.collect(), templates: EndpointGroups::new(names) }
    }

    /// The group of a request with that path; `None` when the service has no groups.
    #[inline]
    pub(crate) fn find(&self, path: &[u8]) -> Option<&Group> {
        let other = self.groups.last()?;
        Some(self.templates.find(path).and_then(|at| self.groups.get(at)).unwrap_or(other))
    }
}

/// The name of a route.
pub(crate) fn route_name(route: &Route) -> SeriesName {
    let host = route.host.as_deref().unwrap_or("*");
    SeriesName::Route { listener: route.listener.clone(), route: format!("{host}{}", route.path) }
}

/// The name of an instance; of what has none, with an empty one.
pub(crate) fn instance_name(service: &str, release: &str, instance: &str) -> SeriesName {
    let (service, release, instance) = (service.to_owned(), release.to_owned(), instance.to_owned());
    SeriesName::Instance { service, release, instance }
}

/// All names that `table` has.
pub(crate) fn names_of(table: &RouteTable) -> impl Iterator<Item = SeriesName> {
    let services = table.services.iter().flat_map(|(service, traffic)| {
        let groups = traffic
            .paths
            .iter()
            .map(move |path| SeriesName::Group { service: service.clone(), group: path.clone() });
        let instances = traffic.releases.iter().flat_map(move |release| {
            let instances = release.endpoints.iter().map(|endpoint| endpoint.instance.as_str());
            instances.chain([""]).map(move |instance| instance_name(service, &release.release, instance))
        });
        groups.chain(instances)
    });
    table.routes.iter().map(route_name).chain(services)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::series::AllSeries;

    #[test]
    fn groups_over_the_limit_are_the_other_one() {
        let all = AllSeries::default();
        let paths = ["/a".to_owned(), "/b".to_owned()];
        let mut room = 3;
        let first = Groups::new("one", &paths, &mut room, |name| all.of(name));
        let second = Groups::new("two", &paths, &mut room, |name| all.of(name));
        let name =
            |groups: &Groups, path: &str| groups.find(path.as_bytes()).map(|group| group.log_field.clone());
        assert_eq!(name(&first, "/b").as_deref(), Some(r#""group":"/b""#));
        assert_eq!(name(&second, "/a").as_deref(), Some(r#""group":"/a""#));
        assert_eq!(name(&second, "/b").as_deref(), Some(r#""group":"other""#));
        assert_eq!(room, 0);
        assert!(Groups::new("three", &[], &mut room, |name| all.of(name)).find(b"/a").is_none());
    }
}
