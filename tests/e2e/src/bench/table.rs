//! What was measured: sections of rows, each with one figure per subject and round, as Markdown and as JSON.

use serde_json::{Value, json};

/// How the figures of a row are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds.
    Micros,
    /// Something per second.
    PerSecond,
    /// Memory.
    Mebibytes,
    /// A little memory.
    Kibibytes,
    /// A part of a whole.
    Percent,
}

impl Unit {
    fn show(self, figure: f64) -> String {
        match self {
            Self::Micros if figure >= 1_000.0 => format!("{:.2} ms", figure / 1_000.0),
            Self::Micros => format!("{figure:.2} µs"),
            Self::PerSecond => format!("{figure:.0}/s"),
            Self::Mebibytes => format!("{figure:.2} MiB"),
            Self::Kibibytes => format!("{figure:.2} KiB"),
            Self::Percent => format!("{:.0} %", figure * 100.0),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Micros => "µs",
            Self::PerSecond => "1/s",
            Self::Mebibytes => "MiB",
            Self::Kibibytes => "KiB",
            Self::Percent => "part",
        }
    }
}

/// One line.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// How its figures are shown.
    pub unit: Unit,
    /// A figure for each subject, round by round. One that could not take part has NaN.
    pub rounds: Vec<Vec<f64>>,
    /// What was to be reached.
    pub goal: String,
}

impl Row {
    fn median_of(&self, subject: usize) -> f64 {
        median(self.rounds.iter().map(|round| round[subject]).collect())
    }

    /// The first subject's part of another's figure: median of the rounds, least and most.
    fn ratio_to(&self, subject: usize) -> (f64, f64, f64) {
        let ratios: Vec<f64> = self.rounds.iter().map(|round| round[0] / round[subject]).collect();
        let least = ratios.iter().copied().fold(f64::NAN, f64::min);
        let most = ratios.iter().copied().fold(f64::NAN, f64::max);
        (median(ratios), least, most)
    }
}

/// A table with what has to be said about it.
#[derive(Debug, Clone)]
pub struct Section {
    /// Name of its cell.
    pub cell: &'static str,
    /// Heading.
    pub title: String,
    /// Subjects; ours first.
    pub columns: Vec<String>,
    /// Lines.
    pub rows: Vec<Row>,
    /// A last line with geometric means of the ratios, and what they were to be.
    pub mean_goal: Option<String>,
    /// Sentences below.
    pub notes: Vec<String>,
}

impl Section {
    /// The section as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("#### {}\n\n| |", self.title);
        let others = 1..self.columns.len();
        self.columns.iter().for_each(|name| text.push_str(&format!(" {name} |")));
        others.clone().for_each(|at| text.push_str(&format!(" / {} |", self.columns[at])));
        text.push_str(" goal |\n|---|");
        text.push_str(&"---|".repeat(self.columns.len() + others.len() + 1));
        for row in &self.rows {
            text.push_str(&format!("\n| {} |", row.what));
            (0..self.columns.len()).for_each(|at| {
                text.push_str(&format!(" {} |", shown_or_dash(row.median_of(at), |f| row.unit.show(f))));
            });
            for at in others.clone() {
                let (middle, least, most) = row.ratio_to(at);
                let show = |f: f64| match row.rounds.len() {
                    1 => format!("{f:.2}"),
                    _ => format!("{f:.2} ({least:.2}–{most:.2})"),
                };
                text.push_str(&format!(" {} |", shown_or_dash(middle, show)));
            }
            text.push_str(&format!(" {} |", row.goal));
        }
        if let Some(goal) = &self.mean_goal {
            text.push_str(&format!("\n| geometric mean |{}", " |".repeat(self.columns.len())));
            for at in others {
                text.push_str(&format!(
                    " {} |",
                    shown_or_dash(self.mean_ratio(at), |f| format!("**{f:.2}**"))
                ));
            }
            text.push_str(&format!(" {goal} |"));
        }
        text.push('\n');
        self.notes.iter().for_each(|note| text.push_str(&format!("\n{note}\n")));
        text
    }

    fn mean_ratio(&self, subject: usize) -> f64 {
        let logarithms: Vec<f64> = self.rows.iter().map(|row| row.ratio_to(subject).0.ln()).collect();
        #[expect(clippy::cast_precision_loss, reason = "a handful of rows")]
        let rows = logarithms.len() as f64;
        (logarithms.iter().sum::<f64>() / rows).exp()
    }

    /// The section for programs, with every round.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|row| self.row_json(row)).collect();
        let means: Vec<f64> = match &self.mean_goal {
            Some(_) => (1..self.columns.len()).map(|at| self.mean_ratio(at)).collect(),
            None => Vec::new(),
        };
        json!({
            "cell": self.cell, "title": self.title, "columns": self.columns, "rows": rows,
            "mean_ratios": means, "mean_goal": self.mean_goal, "notes": self.notes,
        })
    }

    fn row_json(&self, row: &Row) -> Value {
        let medians: Vec<f64> = (0..self.columns.len()).map(|at| row.median_of(at)).collect();
        let ratios: Vec<f64> = (1..self.columns.len()).map(|at| row.ratio_to(at).0).collect();
        json!({
            "what": row.what, "unit": row.unit.name(), "rounds": row.rounds, "medians": medians,
            "ratios": ratios, "goal": row.goal,
        })
    }
}

/// All sections for programs.
pub fn json(sections: &[Section]) -> Value {
    json!({ "sections": sections.iter().map(Section::json).collect::<Vec<_>>() })
}

fn shown_or_dash(figure: f64, show: impl Fn(f64) -> String) -> String {
    if figure.is_finite() { show(figure) } else { "—".to_owned() }
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => f64::NAN,
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(rounds: Vec<Vec<f64>>) -> Section {
        let row = Row { what: "32".to_owned(), unit: Unit::Micros, rounds, goal: "≤ 0.90".to_owned() };
        Section {
            cell: "keepalive",
            title: "T".to_owned(),
            columns: vec!["Handover".to_owned(), "nginx".to_owned()],
            rows: vec![row.clone(), row],
            mean_goal: Some("≤ 0.80".to_owned()),
            notes: vec!["N.".to_owned()],
        }
    }

    #[test]
    fn a_table_has_medians_ratios_and_their_mean() {
        let text = section(vec![vec![1.0, 2.0], vec![3.0, 4.0], vec![9.0, 10.0]]).markdown();
        let line = "| 32 | 3.00 µs | 4.00 µs | 0.75 (0.50–0.90) | ≤ 0.90 |\n";
        assert_eq!(
            text,
            format!(
                "#### T\n\n| | Handover | nginx | / nginx | goal |\n|---|---|---|---|---|\n{line}{line}\
                 | geometric mean | | | **0.75** | ≤ 0.80 |\n\nN.\n"
            )
        );
    }

    #[test]
    fn whoever_could_not_take_part_has_a_dash() {
        let text = section(vec![vec![f64::NAN, 2.0]]).markdown();
        assert!(text.contains("| 32 | — | 2.00 µs | — |"), "{text}");
    }
}
