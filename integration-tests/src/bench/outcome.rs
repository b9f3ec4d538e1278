//! What a case has to say: a table, what it comes to beside floor and aim, and all of it as JSON.
//!
//! A floor that is not met is said, never asserted: figures depend on the machine and on who else uses it.

use serde_json::{Value, json};
use std::fmt::Write as _;

/// One case, measured.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) case: &'static str,
    /// Title, table, remarks.
    pub(super) text: String,
    pub(super) marks: Vec<Mark>,
    /// Every run, in seconds and bytes.
    pub(super) runs: Value,
}

/// One figure beside what it should be.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// After the number: "x nbdcopy".
    pub(super) unit: &'static str,
    pub(super) value: f64,
    pub(super) bound: Bound,
    pub(super) floor: Option<f64>,
    pub(super) aim: Option<f64>,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    AtLeast,
    AtMost,
}

impl Mark {
    pub(super) fn at_least(unit: &'static str, value: f64, floor: f64, aim: Option<f64>) -> Self {
        Self { unit, value, bound: Bound::AtLeast, floor: Some(floor), aim }
    }

    pub(super) fn at_most(unit: &'static str, value: f64, floor: f64) -> Self {
        Self { unit, value, bound: Bound::AtMost, floor: Some(floor), aim: None }
    }

    /// Nothing less would be wrong.
    pub(super) fn aim(unit: &'static str, value: f64, aim: f64) -> Self {
        Self { unit, value, bound: Bound::AtLeast, floor: None, aim: Some(aim) }
    }

    /// What could not be measured meets nothing.
    fn met(&self, wanted: f64) -> bool {
        match self.bound {
            Bound::AtLeast => self.value >= wanted,
            Bound::AtMost => self.value <= wanted,
        }
    }

    fn beside(&self, wanted: f64) -> String {
        let how = if self.bound == Bound::AtMost { "at most " } else { "" };
        format!("{how}{wanted}: {}", if self.met(wanted) { "met" } else { "NOT MET" })
    }

    fn said(&self) -> String {
        let floor = self.floor.map(|floor| format!("floor {}", self.beside(floor)));
        let aim = self.aim.map(|aim| format!("aim {}", self.beside(aim)));
        let wanted: Vec<String> = floor.into_iter().chain(aim).collect();
        format!("{:.3} {} ({})", self.value, self.unit, wanted.join("; "))
    }

    fn json(&self) -> Value {
        json!({
            "unit": self.unit,
            "value": self.value,
            "better": if self.bound == Bound::AtMost { "less" } else { "more" },
            "floor": self.floor,
            "floor_met": self.floor.map(|floor| self.met(floor)),
            "aim": self.aim,
            "aim_met": self.aim.map(|aim| self.met(aim)),
        })
    }
}

impl Outcome {
    /// For the terminal.
    pub(super) fn said(&self) -> String {
        let mut text = self.text.clone();
        for mark in &self.marks {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "  {}", mark.said());
        }
        text
    }

    /// A line for each mark, for the overview at the end.
    pub(super) fn overview(&self) -> Vec<[String; 5]> {
        let row = |mark: &Mark| {
            let beside = |wanted: Option<f64>| wanted.map_or("-".to_owned(), |it| mark.beside(it));
            let (floor, aim) = (beside(mark.floor), beside(mark.aim));
            [self.case.to_owned(), format!("{:.3}", mark.value), mark.unit.to_owned(), floor, aim]
        };
        self.marks.iter().map(row).collect()
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "case": self.case,
            "marks": self.marks.iter().map(Mark::json).collect::<Vec<_>>(),
            "measured": self.runs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_of_floor_or_aim_is_said() {
        let mark = Mark::at_least("x nbdcopy", 1.2, 1.15, Some(1.3));
        assert_eq!(mark.said(), "1.200 x nbdcopy (floor 1.15: met; aim 1.3: NOT MET)");
        assert_eq!(mark.json()["floor_met"], true);
        assert_eq!(mark.json()["aim_met"], false);
        let mark = Mark::at_most("cores", 0.6, 0.5);
        assert_eq!(mark.said(), "0.600 cores (floor at most 0.5: NOT MET)");
        assert_eq!(Mark::aim("x", 1.0, 1.0).said(), "1.000 x (aim 1: met)");
        assert!(!Mark::at_least("x", f64::NAN, 0.0, None).met(0.0), "nothing was measured");
    }
}
