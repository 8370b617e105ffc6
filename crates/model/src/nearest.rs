//! The name that was probably meant.

/// The known name that is nearest to `name`, if it is near enough to have been meant.
pub fn nearest(name: &str, known: &[String]) -> Option<String> {
    let near_enough = 1 + name.chars().count() / 4;
    let distances = known.iter().map(|other| (distance(name, other), other));
    distances.filter(|(distance, _)| *distance <= near_enough).min().map(|(_, other)| other.clone())
}

/// Insertions, deletions, substitutions and swaps of neighbours that make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["shop".to_owned(), "billing".to_owned()];
        assert_eq!(nearest("shpo", &known).as_deref(), Some("shop"));
        assert_eq!(nearest("biling", &known).as_deref(), Some("billing"));
        assert_eq!(nearest("web", &known), None);
        assert_eq!(nearest("", &[]), None);
    }
}
