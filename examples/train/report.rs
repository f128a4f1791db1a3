//! Results: a table, and learning curves as an SVG.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::metrics::F1;

/// One loss, trained.
pub struct Run {
    /// Name of the loss.
    pub name: &'static str,
    /// After each epoch.
    pub epochs: Vec<Epoch>,
}

/// The state after one epoch.
#[derive(Clone, Copy)]
pub struct Epoch {
    /// Mean loss of the training rows, as they were seen during the epoch.
    pub loss: f32,
    /// F1 on the training half.
    pub train: F1,
    /// F1 on the test half.
    pub test: F1,
}

/// F1 after the last epoch.
pub fn print_table(runs: &[Run]) {
    println!(
        "\n{:<6}{:>14}{:>12}{:>12}{:>12}{:>12}",
        "loss", "train micro", "macro", "test micro", "macro", "loss/row"
    );
    for Run { name, epochs } in runs {
        let Some(Epoch { loss, train, test }) = epochs.last() else { continue };
        println!(
            "{name:<6}{:>14.4}{:>12.4}{:>12.4}{:>12.4}{loss:>12.5}",
            train.micro, train.macro_, test.micro, test.macro_
        );
    }
}

/// Colours of the first and the second loss: readable with any colour vision.
const COLOURS: [RGBColor; 2] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0)];

/// One line of a plot.
struct Curve {
    label: String,
    colour: RGBColor,
    /// Thin lines are for what is not the point: the training half.
    thin: bool,
    values: Vec<f64>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// F1 and loss by epoch.
pub fn plot(runs: &[Run], path: &Path) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    draw(runs, path).with_context(|| format!("cannot write {}", path.display()))
}

fn draw(runs: &[Run], path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, (1000, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(500);

    let curve = |run: &Run, index: usize, label: &str, thin: bool, value: &dyn Fn(&Epoch) -> f64| Curve {
        label: format!("{}{label}", run.name),
        colour: COLOURS[index % COLOURS.len()],
        thin,
        values: run.epochs.iter().map(value).collect(),
    };
    let (mut f1, mut loss) = (Vec::new(), Vec::new());
    for (index, run) in runs.iter().enumerate() {
        f1.push(curve(run, index, ", test", false, &|epoch| epoch.test.micro));
        f1.push(curve(run, index, ", training", true, &|epoch| epoch.train.micro));
        // The losses have different scales.
        let first = run.epochs.first().map_or(1.0, |epoch| f64::from(epoch.loss));
        loss.push(curve(run, index, "", false, &|epoch| f64::from(epoch.loss) / first));
    }
    panel(&left, "micro-F1", &f1, SeriesLabelPosition::LowerRight)?;
    panel(&right, "training loss relative to epoch 1", &loss, SeriesLabelPosition::UpperRight)?;
    area.present()?;
    Ok(())
}

fn panel(area: &Area<'_>, caption: &str, curves: &[Curve], legend: SeriesLabelPosition) -> Result<()> {
    let epochs = curves.iter().map(|curve| curve.values.len()).max().unwrap_or(0) as f64;
    let top = curves.iter().flat_map(|curve| &curve.values).fold(0.0, |top: f64, &value| top.max(value));
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..epochs + 1.0, 0.0..if top > 0.0 { 1.05 * top } else { 1.0 })?;
    chart
        .configure_mesh()
        .x_desc("epoch")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for Curve { label, colour, thin, values } in curves {
        let style = colour.filled().stroke_width(if *thin { 1 } else { 2 });
        let points = values.iter().enumerate().map(|(index, &value)| ((index + 1) as f64, value));
        // Points too: a single epoch makes no line.
        let line = LineSeries::new(points, style).point_size(if *thin { 1 } else { 2 });
        chart.draw_series(line)?.label(label).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    chart.configure_series_labels().position(legend).background_style(WHITE.mix(0.8)).draw()?;
    Ok(())
}
