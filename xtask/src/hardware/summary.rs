//! Tables of a bench run, from its JSON.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

/// What the bench told: the overhead of launches, and the lines of what plans choose.
pub fn tables(run: &Value) -> Result<String> {
    let mut text = String::from("\n## Launch overhead\n\n");
    for (key, value) in run["overhead"].as_object().context("the bench tells no overhead")? {
        match value.as_f64() {
            Some(seconds) if key.ends_with("seconds") => {
                writeln!(text, "- {}: {:.2} us", key.replace('_', " "), seconds * 1e6)?;
            }
            _ => writeln!(text, "- {}: {value}", key.replace('_', " "))?,
        }
    }
    text.push_str(
        "\n## What plans choose\n\nTimes are per launch, medians; shares are of the streaming kernel of the ",
    );
    text.push_str("same turns and of the memory's peak.\n\n");
    text.push_str("| Shape | Scores, labels | Mode | Regime | us | GB/s | of streaming | of peak | L2 cold |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|\n");
    let measured = run["virtual"] == false;
    let number = |value: &Value, scale: f64, digits: usize| match value.as_f64().filter(|_| measured) {
        Some(value) => format!("{:.digits$}", value * scale),
        None => "-".into(),
    };
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let lines = run["lines"].as_array().context("the bench tells no lines")?;
    for line in lines.iter().filter(|line| line["chosen"] == true) {
        writeln!(
            text,
            "| {} x {} | {}, {} | {} | {} | {} | {} | {}% | {}% | {} |",
            line["rows"],
            line["cols"],
            word(&line["scores"]),
            word(&line["labels"]),
            word(&line["mode"]),
            word(&line["regime"]),
            number(&line["seconds"]["median"], 1e6, 1),
            number(&line["gbps"], 1.0, 0),
            number(&line["of_streaming"], 1e2, 1),
            number(&line["of_peak"], 1e2, 1),
            if line["l2_cold"] == true { "yes" } else { "no" },
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(is_virtual: bool) -> Value {
        json!({
            "virtual": is_virtual,
            "overhead": { "raw_call_seconds": 2.5e-6, "graph_node_seconds": null, "typed_driver_calls": 30 },
            "lines": [
                { "rows": 7, "cols": 9, "scores": "f16", "labels": "u8", "mode": "forward", "regime": "warp",
                  "chosen": true, "l2_cold": false, "seconds": { "median": 1e-5 }, "gbps": 1234.4,
                  "of_streaming": 0.95, "of_peak": null },
                { "rows": 8, "cols": 9, "chosen": false },
            ],
        })
    }

    #[test]
    fn a_line_for_each_choice() {
        let text = tables(&run(false)).expect("tables");
        assert!(text.contains("| 7 x 9 | f16, u8 | forward | warp | 10.0 | 1234 | 95.0% | -% | no |"), "{text}");
        assert!(text.contains("- raw call seconds: 2.50 us") && text.contains("- typed driver calls: 30"), "{text}");
        assert!(!text.contains("8 x 9"), "{text}");
    }

    #[test]
    fn no_time_of_a_virtual_gpu_is_told() {
        let text = tables(&run(true)).expect("tables");
        assert!(text.contains("| warp | - | - | -% | -% | no |") && !text.contains("1234"), "{text}");
    }
}
