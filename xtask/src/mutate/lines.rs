//! Places in the kernels' sources by what the line says, and not by its number, which changes with every line above.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};

/// Between a place and the one that it was inlined at.
pub const INLINED_AT: &str = " <- ";

/// What the lines of each file say.
#[derive(Default)]
pub struct Lines {
    files: HashMap<String, Vec<String>>,
}

impl Lines {
    /// Reads the sources in a folder.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn read(folder: &Path) -> Result<Lines> {
        let mut lines = Lines::default();
        for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "cu" || e == "cuh") {
                let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                lines.add(name, &text);
            }
        }
        Ok(lines)
    }

    fn add(&mut self, name: String, text: &str) {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let says = text.lines().map(|line| {
            let code = line.split("//").next().unwrap_or_default();
            let code = code.trim_end_matches('\\').split_whitespace().collect::<Vec<_>>().join(" ");
            let times = seen.entry(code.clone()).or_default();
            *times += 1;
            // Lines that say the same are told apart by their order.
            if *times > 1 { format!("{code} #{times}") } else { code }
        });
        let says = says.collect();
        self.files.insert(name, says);
    }

    /// What line `number` (from 1 on) of a file says; the number itself if there is no such line, as for what the
    /// compiler made up (line 0).
    pub fn place(&self, file: &str, number: &str) -> String {
        let index = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        let says = index.and_then(|i| self.files.get(file)?.get(i)).map_or(number, String::as_str);
        format!("{file}: {says}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_name_when_others_come_before_it() {
        let place = |text: &str, number| {
            let mut lines = Lines::default();
            lines.add("a.cuh".into(), text);
            lines.place("a.cuh", number)
        };
        assert_eq!(place("x;\n  y  =  1;  // why\nx;\n", "2"), "a.cuh: y = 1;");
        assert_eq!(place("x;\nz;\n  // why\n  y = 1; \\\nx;\n", "4"), "a.cuh: y = 1;");
        assert_eq!(place("x;\ny;\nx;\n", "1"), "a.cuh: x;");
        assert_eq!(place("x;\ny;\nx;\n", "3"), "a.cuh: x; #2");
        assert_eq!(place("x;\n", "0"), "a.cuh: 0");
    }
}
