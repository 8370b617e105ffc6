//! A report in as many messages as its series need: a frame has a limit, a busy proxy many series.
//!
//! Each message has everything but the series, so that an agent that knows none is told the same several times.

use wire::frame::FRAME_BYTES_MAX;
use wire::traffic::{Counters, SeriesCounters};

/// For the series in one message; the rest of a frame is for everything else.
const SERIES_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;

/// `counters` with all of `series`, in messages that fit into frames. Only the last one has the token.
pub(super) fn in_parts(mut counters: Counters, series: Vec<SeriesCounters>, is_anew: bool) -> Vec<Counters> {
    let token = counters.token.take();
    let mut parts = vec![Counters { series_anew: is_anew, ..counters.clone() }];
    let mut bytes = 0;
    for one in series {
        let more = one.bytes_at_most();
        if bytes + more > SERIES_BYTES_MAX && bytes > 0 {
            parts.push(counters.clone());
            bytes = 0;
        }
        bytes += more;
        if let Some(last) = parts.last_mut() {
            last.series.push(one);
        }
    }
    if let Some((last, before)) = parts.split_last_mut() {
        before.iter_mut().for_each(|part| part.series_more = true);
        last.token = token;
    }
    parts
}

#[cfg(test)]
mod tests {
    use model::series::{SeriesName, SeriesTotals};
    use wire::traffic::{FromProxy, ReleaseCounters};

    use super::*;

    #[test]
    fn two_hundred_busy_services_fit_into_frames_with_nothing_lost() {
        let mut series = Vec::new();
        let mut totals = SeriesTotals { answers: [1 << 40; 6], ..SeriesTotals::default() };
        for micros in (0..20).flat_map(|octave| (0..8).map(move |step| (100 + step * 12) << octave)) {
            totals.latency.record_micros(micros);
            totals.first_byte.record_micros(micros);
        }
        let mut counters = Counters { token: Some(7), accepted: 3, ..Counters::default() };
        for service in 0..200 {
            let (service, release) =
                (format!("a-long-service-name-{service}"), "2026.11.27-abcdef".to_owned());
            for instance in 0..2 {
                let instance = format!("{service}@{release}/{instance}");
                let (service, release) = (service.clone(), release.clone());
                let name = SeriesName::Instance { service, release, instance };
                series.push(SeriesCounters::new(&name, &totals));
            }
            counters.releases.push(ReleaseCounters { service, release, ..ReleaseCounters::default() });
        }
        let all = series.clone();
        let parts = in_parts(counters, series, true);
        assert!(parts.len() > 1);
        let mut told = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let is_last = at + 1 == parts.len();
            assert_eq!((part.series_anew, part.series_more), (at == 0, !is_last));
            assert_eq!((part.accepted, part.token), (3, is_last.then_some(7)));
            assert!(wire::frame::encode(&FromProxy::Counters(Box::new(part.clone())), 0).is_ok());
            told.extend(part.series.iter().cloned());
        }
        assert_eq!(told, all);
    }

    #[test]
    fn a_report_without_series_is_one_message() {
        let parts = in_parts(Counters { token: Some(1), ..Counters::default() }, Vec::new(), false);
        assert_eq!(parts, [Counters { token: Some(1), ..Counters::default() }]);
    }
}
