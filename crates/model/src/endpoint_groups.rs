//! Endpoint groups: which of a service's path templates (`/api/order/{id}`) a request's path belongs to.
//!
//! Segment by segment a literal is preferred to a parameter, with a step back where that leads nowhere. A template
//! names whole paths, not prefixes; one slash at a path's end makes no difference. What matches none is in no group.
//! Paths are compared as the client sent them: nothing is decoded or normalised.

/// Most templates of one service; of more, the rest is in no group.
pub const TEMPLATES_MAX: usize = 64;
/// Most segments of one template.
pub const SEGMENTS_MAX: usize = 32;

/// Why a text is no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// It is no path.
    #[error("it does not begin with `/`")]
    Relative,
    /// Two slashes in a row.
    #[error("it has an empty segment")]
    EmptySegment,
    /// A brace that does not enclose a whole segment.
    #[error("a parameter is a whole segment in braces, such as `{{id}}`")]
    Parameter,
    /// It would never match.
    #[error("a path has neither `?` nor `#` nor spaces or control characters")]
    Character,
    /// Too long.
    #[error("it has more than {SEGMENTS_MAX} segments")]
    Segments,
}

/// Whether `template` is one.
///
/// # Errors
/// With what is wrong.
pub fn check_template(template: &str) -> Result<(), BadTemplate> {
    segments(template).map(|_| ())
}

fn segments(template: &str) -> Result<Vec<&str>, BadTemplate> {
    let rest = template.strip_prefix('/').ok_or(BadTemplate::Relative)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if template.bytes().any(|byte| byte <= b' ' || matches!(byte, 0x7f | b'?' | b'#')) {
        return Err(BadTemplate::Character);
    }
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let segments: Vec<&str> = rest.split('/').collect();
    if segments.len() > SEGMENTS_MAX {
        return Err(BadTemplate::Segments);
    }
    for segment in &segments {
        if segment.is_empty() {
            return Err(BadTemplate::EmptySegment);
        }
        let has_brace = |text: &str| text.contains(['{', '}']);
        match parameter(segment) {
            Some(name) if name.is_empty() || has_brace(name) => return Err(BadTemplate::Parameter),
            None if has_brace(segment) => return Err(BadTemplate::Parameter),
            _ => {}
        }
    }
    Ok(segments)
}

fn parameter(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

#[derive(Debug, Clone, Default)]
struct Node {
    literals: Vec<(Box<[u8]>, usize)>,
    parameter: Option<usize>,
    group: Option<usize>,
}

/// The groups of one service, ready for lookups.
#[derive(Debug, Clone, Default)]
pub struct EndpointGroups {
    /// The root first; empty without groups.
    nodes: Vec<Node>,
}

impl EndpointGroups {
    /// Groups by `templates`, numbered in their order. What is no template, and what is over the limit, matches
    /// nothing; of two for the same paths the first counts.
    pub fn new<'a>(templates: impl IntoIterator<Item = &'a str>) -> Self {
        let mut groups = Self::default();
        for (group, template) in templates.into_iter().take(TEMPLATES_MAX).enumerate() {
            if let Ok(segments) = segments(template) {
                groups.add(&segments, group);
            }
        }
        groups
    }

    fn add(&mut self, segments: &[&str], group: usize) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for segment in segments {
            let next = self.nodes.len();
            let node = &mut self.nodes[at];
            at = if parameter(segment).is_some() {
                *node.parameter.get_or_insert(next)
            } else if let Some((_, known)) =
                node.literals.iter().find(|(text, _)| **text == *segment.as_bytes())
            {
                *known
            } else {
                node.literals.push((segment.as_bytes().into(), next));
                next
            };
            if at == next {
                self.nodes.push(Node::default());
            }
        }
        self.nodes[at].group.get_or_insert(group);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The number of the template that `path` (no query) belongs to.
    #[inline]
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        let root = self.nodes.first()?;
        let rest = path.strip_prefix(b"/")?;
        self.walk(root, rest.strip_suffix(b"/").unwrap_or(rest))
    }

    /// Each node is looked at once at most, so a hostile path costs no more than the templates are long.
    fn walk(&self, node: &Node, rest: &[u8]) -> Option<usize> {
        if rest.is_empty() {
            return node.group;
        }
        let end = first_slash(rest);
        let segment = &rest[..end];
        // A slash at the very end was taken away before: another one makes an empty segment, which nothing matches.
        let (after, is_open) = match rest.get(end + 1..) {
            Some(after) => (after, after.is_empty()),
            None => (&rest[end..], false),
        };
        if segment.is_empty() || is_open {
            return None;
        }
        let literal = node.literals.iter().find(|(text, _)| **text == *segment);
        literal
            .and_then(|(_, next)| self.walk(&self.nodes[*next], after))
            .or_else(|| self.walk(&self.nodes[node.parameter?], after))
    }
}

/// Where the first slash is, or the end: eight bytes at a time, for most segments are about that long.
fn first_slash(bytes: &[u8]) -> usize {
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const SLASHES: u64 = u64::from_ne_bytes([b'/'; 8]);
    let mut at = 0;
    while let Some(eight) = bytes[at..].first_chunk() {
        // A byte that was a slash is zero, and the lowest zero is where subtracting one borrows first.
        let differs = u64::from_le_bytes(*eight) ^ SLASHES;
        let zeros = differs.wrapping_sub(LOW) & !differs & HIGH;
        if zeros != 0 {
            return at + (zeros.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| *byte == b'/').map_or(bytes.len(), |slash| at + slash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(templates: &[&'static str], path: &str) -> Option<&'static str> {
        EndpointGroups::new(templates.iter().copied()).find(path.as_bytes()).map(|at| templates[at])
    }

    #[test]
    fn a_literal_beats_a_parameter_segment_by_segment() {
        let all = ["/api/{kind}/{id}", "/api/order/{id}", "/api/order/new", "/api/{kind}/new", "/"];
        assert_eq!(find(&all, "/api/order/5"), Some("/api/order/{id}"));
        assert_eq!(find(&all, "/api/order/new"), Some("/api/order/new"));
        assert_eq!(find(&all, "/api/cart/new"), Some("/api/{kind}/new"));
        assert_eq!(find(&all, "/api/cart/5"), Some("/api/{kind}/{id}"));
        assert_eq!(find(&all, "/"), Some("/"));
        assert_eq!(find(&all, "/api/order"), None);
        assert_eq!(find(&all, "/api/order/5/items"), None);
        assert_eq!(find(&all, "*"), None);
        assert_eq!(find(&[], "/"), None);
    }

    #[test]
    fn a_literal_that_leads_nowhere_is_stepped_back_from() {
        let all = ["/a/b/c", "/{x}/b/d", "/a/{y}/e"];
        assert_eq!(find(&all, "/a/b/d"), Some("/{x}/b/d"));
        assert_eq!(find(&all, "/a/b/e"), Some("/a/{y}/e"));
        assert_eq!(find(&all, "/a/b/f"), None);
    }

    #[test]
    fn one_slash_at_the_end_makes_no_difference_and_empty_segments_match_nothing() {
        let all = ["/a/{id}", "/b/"];
        assert_eq!(find(&all, "/a/1/"), Some("/a/{id}"));
        assert_eq!(find(&all, "/a//"), None);
        assert_eq!(find(&all, "/a/1//"), None);
        assert_eq!(find(&all, "//1"), None);
        assert_eq!(find(&all, "/b"), Some("/b/"));
    }

    #[test]
    fn the_first_slash_is_found_wherever_it_is() {
        for length in 0..40 {
            let mut bytes = vec![b'.'; length];
            assert_eq!(first_slash(&bytes), length);
            for at in (0..length).rev() {
                bytes[at] = b'/';
                assert_eq!(first_slash(&bytes), at);
            }
        }
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_reason() {
        assert_eq!(check_template("/api/order/{id}"), Ok(()));
        assert_eq!(check_template("api"), Err(BadTemplate::Relative));
        assert_eq!(check_template("/a//b"), Err(BadTemplate::EmptySegment));
        for wrong in ["/{}", "/a{id}", "/{id", "/{a{b}}", "/id}"] {
            assert_eq!(check_template(wrong), Err(BadTemplate::Parameter), "{wrong}");
        }
        assert_eq!(check_template("/a?b"), Err(BadTemplate::Character));
        assert_eq!(check_template(&"/a".repeat(SEGMENTS_MAX + 1)), Err(BadTemplate::Segments));
    }

    proptest! {
        #[test]
        fn the_group_found_is_the_most_specific_of_those_that_match(
            templates in proptest::collection::vec("(/(a|b|\\{x\\})){1,4}", 1..12),
            path in "(/(a|b|c)){1,4}",
        ) {
            let split = |text: &str| text.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>();
            let wanted = split(&path);
            // True for a parameter: literals sort first.
            let rank = |template: &String| {
                let given = split(template);
                let fits = given.len() == wanted.len()
                    && given.iter().zip(&wanted).all(|(one, other)| one == "{x}" || one == other);
                fits.then(|| given.iter().map(|one| one == "{x}").collect::<Vec<_>>())
            };
            let best = templates.iter().filter_map(rank).min();
            let found = EndpointGroups::new(templates.iter().map(String::as_str)).find(path.as_bytes());
            prop_assert_eq!(found.and_then(|at| rank(&templates[at])), best);
        }
    }
}
