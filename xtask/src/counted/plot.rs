//! Bytes per element over columns, a line per regime.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::grid::{self, Mode};
use super::measure::Counted;

/// Panels in a row.
const ACROSS: usize = 3;
/// Width and height of a panel.
const PANEL: (u32, u32) = (480, 360);

/// Bytes per element at each number of columns, by regime in its order.
type Lines<'a> = BTreeMap<(usize, &'a str), BTreeMap<usize, f64>>;

/// A panel for each pair of types with loss and gradient; the most bytes of all devices and places in memory.
pub fn draw(all: &[Counted], path: &Path) -> Result<()> {
    let mut panels: Vec<(&str, f64, Lines<'_>)> = Vec::new();
    for run in all.iter().filter(|run| run.mode == Mode::Gradient) {
        let index = panels.iter().position(|panel| panel.0 == run.pair).unwrap_or_else(|| {
            panels.push((&run.pair, f64::MAX, Lines::new()));
            panels.len() - 1
        });
        let (_, floor, lines) = &mut panels[index];
        *floor = floor.min(run.floor);
        let most = lines.entry((grid::order(run.regime), run.regime)).or_default().entry(run.cols).or_insert(0.0);
        *most = most.max(run.bytes);
    }
    let (across, down) = (panels.len().clamp(1, ACROSS), panels.len().div_ceil(ACROSS).max(1));
    let area = SVGBackend::new(path, (PANEL.0 * across as u32, PANEL.1 * down as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    for ((pair, floor, lines), area) in panels.iter().zip(area.split_evenly((down, across))) {
        panel(&area, pair, *floor, lines)?;
    }
    area.present()?;
    Ok(())
}

fn panel(area: &DrawingArea<SVGBackend<'_>, Shift>, pair: &str, floor: f64, lines: &Lines<'_>) -> Result<()> {
    let columns = lines.values().flat_map(|line| line.keys().copied());
    let (first, last) = (columns.clone().min().unwrap_or(1), columns.max().unwrap_or(2));
    let range = (first as f64)..(last.max(first + 1) as f64);
    let top = lines.values().flat_map(|line| line.values()).fold(floor, |top: f64, &bytes| top.max(bytes));
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{pair}, loss and gradient"), ("sans-serif", 16))
        .margin(10)
        .margin_right(36)
        .x_label_area_size(34)
        .y_label_area_size(48)
        .build_cartesian_2d(range.clone().log_scale(), 0.0..1.1 * top)?;
    chart
        .configure_mesh()
        .x_desc("columns")
        .y_desc("bytes per element")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    chart
        .draw_series(LineSeries::new([(range.start, floor), (range.end, floor)], BLACK.stroke_width(1)))?
        .label("floor")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLACK));
    for (index, ((_, regime), line)) in lines.iter().enumerate() {
        // Most lines lie on the floor: each leaves the edges of those below it to be seen.
        let style = Palette99::pick(index).filled().stroke_width(2 * (lines.len() - index) as u32);
        let points = line.iter().map(|(&columns, &bytes)| (columns as f64, bytes));
        // Points too: a single length makes no line.
        chart
            .draw_series(LineSeries::new(points, style).point_size(2))?
            .label(*regime)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}
