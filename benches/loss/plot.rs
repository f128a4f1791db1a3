//! Speed over columns, one line per regime, as SVG.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use plotters::prelude::*;

use crate::record::Line;
use crate::shapes::{GRID, ODD};

/// One plot for each combination of types and mode in `folder`; how many.
pub fn draw(lines: &[Line], device: &str, folder: &Path) -> Result<usize> {
    let mut groups: BTreeMap<_, Vec<&Line>> = BTreeMap::new();
    for line in lines.iter().filter(|line| [GRID, ODD].contains(&line.workload)) {
        groups.entry((line.scores, line.labels, line.mode)).or_default().push(line);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for ((scores, labels, mode), lines) in &groups {
        let caption = format!("{scores} scores, {labels} labels, {mode}: {device}");
        let path = folder.join(format!("{scores}_{labels}_{}.svg", mode.replace(' ', "_")));
        plot(lines, &caption, &path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(groups.len())
}

/// What is drawn of a line: the speed, or on a virtual GPU, which has none, the bytes asked for.
fn height(line: &Line) -> f64 {
    line.gbps.or(line.counted).unwrap_or(0.0)
}

fn plot(lines: &[&Line], caption: &str, path: &Path) -> Result<()> {
    let real = lines.iter().any(|line| line.gbps.is_some());
    let streaming = |line: &&&Line| line.chosen && line.workload == GRID && line.streaming_gbps.is_some();
    let streaming: Vec<_> =
        lines.iter().filter(streaming).map(|line| (line.cols as f64, line.streaming_gbps.unwrap_or(0.0))).collect();
    let mut regimes: Vec<&str> = Vec::new();
    for line in lines {
        if !regimes.contains(&line.regime) {
            regimes.push(line.regime);
        }
    }
    let cols = || lines.iter().map(|line| line.cols as f64);
    let (least, most) = (cols().fold(f64::MAX, f64::min) / 1.5, cols().fold(1.0, f64::max) * 1.5);
    let heights = lines.iter().map(|line| height(line)).chain(streaming.iter().map(|&(_, y)| y));
    let top = 1.1 * heights.fold(f64::MIN_POSITIVE, f64::max);

    let area = SVGBackend::new(path, (900, 520)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((least..most).log_scale().base(2.0), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("columns (circles: odd; dots: what the plan chooses)")
        .y_desc(if real { "GB/s" } else { "bytes asked for / bytes that must move" })
        .x_label_formatter(&|x| format!("{x:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    if !streaming.is_empty() {
        let style = BLACK.mix(0.5).stroke_width(1);
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style);
        chart.draw_series(LineSeries::new(streaming, style))?.label("streaming kernel").legend(legend);
    }
    for (index, regime) in regimes.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let of = |workload: &'static str| {
            lines.iter().filter(move |line| line.regime == *regime && line.workload == workload)
        };
        let point = |line: &&Line| (line.cols as f64, height(line));
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2));
        let series = LineSeries::new(of(GRID).map(point), colour.stroke_width(2));
        chart.draw_series(series)?.label(*regime).legend(legend);
        let chosen = of(GRID).filter(|line| line.chosen);
        chart.draw_series(chosen.map(|line| Circle::new(point(line), 4, colour.filled())))?;
        chart.draw_series(of(ODD).map(|line| Circle::new(point(line), 4, colour.stroke_width(1))))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()?;
    Ok(())
}
