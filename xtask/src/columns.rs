//! Tables for the terminal.

use std::fmt::Write as _;

/// A heading, and what a row has under it.
pub type Column<'a, T> = (&'a str, &'a dyn Fn(&T) -> String);

/// The rows under their headings, each column as wide as it must be; the first is aligned to the left.
pub fn table<T>(columns: &[Column<'_, T>], rows: impl IntoIterator<Item = T>) -> String {
    let headings = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let cells = rows.into_iter().map(|row| columns.iter().map(|(_, cell)| cell(&row)).collect());
    let lines: Vec<Vec<String>> = std::iter::once(headings).chain(cells).collect();
    let widths: Vec<usize> =
        (0..columns.len()).map(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        let (first, rest) = line.split_at(1.min(line.len()));
        let padded = first.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let rest = rest.iter().zip(&widths[first.len()..]).map(|(cell, width)| format!("{cell:>width$}"));
        let line: Vec<String> = padded.chain(rest).collect();
        let _ = writeln!(text, "{}", line.join(" ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let columns: [Column<'_, (&str, u32)>; 2] =
            [("name", &|row| row.0.to_owned()), ("n", &|row| row.1.to_string())];
        let text = table(&columns, [("a", 1), ("longer", 1000)]);
        assert_eq!(text, "name      n\na         1\nlonger 1000\n");
    }
}
