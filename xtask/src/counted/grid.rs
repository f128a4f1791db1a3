//! What is run: shapes, forms, places in memory, and for each device the regimes.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize, Serializer};
use zlpr::plan::{Device, Plan, Problem, Regime};
use zlpr::{DType, Error, Reduction};

use crate::common::workloads::WORKLOADS;
use crate::common::{Case, Upstream, data};

/// A compute capability of the virtual GPU, with the limits of the product that stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(pub u32, pub u32);

/// T4, A100, A40, H100, B200, RTX 5090.
pub const CAPABILITIES: [Capability; 6] =
    [Capability(7, 5), Capability(8, 0), Capability(8, 6), Capability(9, 0), Capability(10, 0), Capability(12, 0)];

/// Rows and columns, as `ROWSxCOLS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the workload, by which the plan chooses a regime.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

/// quack's grid of row lengths: powers of two from 256 to 256K.
const POWERS: std::ops::RangeInclusive<u32> = 8..=18;

/// Rows of shapes that are no workload's: enough for any device to be full of them.
const MANY_ROWS: usize = 16_384;

/// Scores and labels.
pub const PAIRS: [(DType, DType); 5] = [
    (DType::F16, DType::F16),
    (DType::F16, DType::U8),
    (DType::Bf16, DType::Bf16),
    (DType::F32, DType::F32),
    (DType::F32, DType::U8),
];

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Loss and gradient.
    Gradient,
    /// The loss only.
    Forward,
    /// The gradient replaces the scores.
    InPlace,
    /// Loss and gradient, with a mask and an upstream gradient per row.
    Masked,
}

impl Mode {
    const ALL: [Mode; 4] = [Mode::Gradient, Mode::Forward, Mode::InPlace, Mode::Masked];

    /// Whether it wants the gradient.
    pub fn gradient(self) -> bool {
        self != Mode::Forward
    }
}

/// Where the arrays lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Rows follow one another without padding. The first that is looked at is row 3 of its matrix, which no more than
    /// any other begins at a multiple of 16 bytes.
    Contiguous,
    /// The same from a first element on that is 1, 3, 5 and 7 elements behind an aligned address: scores, labels, mask,
    /// gradient.
    Offset,
}

/// One launch to count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// Rows, a few, and columns.
    pub shape: Shape,
    /// Scores and labels.
    pub pair: (DType, DType),
    /// What is computed.
    pub mode: Mode,
    /// Where the arrays lie.
    pub layout: Layout,
    /// Where a row lives.
    pub regime: Regime,
    /// Whether the plan chose the regime; otherwise it was forced.
    pub selected: bool,
}

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every shape in every form.
    Whole,
    /// Enough to see every budget at work in a minute or so.
    Quick,
}

/// As many rows as are worth looking at: 64 short ones, one long one.
fn few(cols: usize) -> usize {
    (65_536 / cols.max(1)).clamp(1, 64)
}

/// Rows above this many columns run the gradient only.
const LONG: usize = 1 << 20;

impl Run {
    /// The problem with its data.
    pub fn case(&self) -> Case {
        let Shape { rows, cols } = self.shape;
        let case = data::ordinary("counted", self.pair, (rows, cols), 2.0, 1).offsets(self.offsets());
        match self.mode {
            Mode::Gradient | Mode::Forward => case,
            Mode::InPlace => case.in_place(),
            Mode::Masked => {
                let upstream = (0..rows).map(|row| 1.0 + row as f32).collect();
                case.mask(data::mask(&mut data::rng(2), rows * cols)).upstream(Upstream::PerRow(upstream))
            }
        }
    }

    /// Elements before the first row: scores, labels, mask, gradient.
    fn offsets(&self) -> [usize; 4] {
        match self.layout {
            Layout::Contiguous => [3 * self.shape.cols % 16; 4],
            Layout::Offset => [1, 3, 5, 7],
        }
    }

    /// Whether every row of every array begins at a multiple of what lies beside 16 bytes of scores.
    pub fn aligned(&self) -> bool {
        self.layout == Layout::Contiguous && (self.shape.cols * self.pair.0.size()).is_multiple_of(16)
    }
}

/// The problem that a plan is made for.
fn problem(shape: Shape, pair: (DType, DType), mode: Mode) -> Problem {
    Problem {
        rows: shape.rows as u64,
        cols: shape.cols as u64,
        scores: pair.0,
        labels: pair.1,
        gradient: mode.gradient().then_some(pair.0),
        reduction: Reduction::None,
    }
}

/// What to run on a device: each shape in the regime that the plan selects, and every regime at the edges of its range.
///
/// # Errors
/// A plan that should exist does not.
pub fn runs(device: &Device, extent: Extent, pair: (DType, DType)) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for (shape, layout) in shapes(extent) {
        for mode in modes(extent, pair, shape.cols) {
            runs.push(selected(device, shape, pair, mode, layout)?);
        }
    }
    for regime in Regime::ALL {
        for cols in edges(device, pair, regime, extent) {
            for mode in modes(extent, pair, cols) {
                runs.extend(forced(device, Shape { rows: few(cols), cols }, pair, mode, regime)?);
            }
        }
        if extent == Extent::Whole {
            // A line for the plot.
            for cols in POWERS.map(|power| 1 << power) {
                runs.extend(forced(device, Shape { rows: few(cols), cols }, pair, Mode::Gradient, regime)?);
            }
        }
    }
    Ok(runs)
}

/// One shape in every mode: in the regime that the plan selects, or in those given.
///
/// # Errors
/// A plan that should exist does not.
pub fn one_shape(device: &Device, shape: Shape, pair: (DType, DType), regimes: &[Regime]) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for mode in Mode::ALL {
        if regimes.is_empty() {
            let run = selected(device, shape, pair, mode, Layout::Contiguous)?;
            runs.push(Run { shape, ..run });
        }
        for &regime in regimes {
            runs.extend(forced(device, shape, pair, mode, regime)?);
        }
    }
    Ok(runs)
}

/// Shapes for the plan to choose a regime for, and where their arrays lie.
fn shapes(extent: Extent) -> Vec<(Shape, Layout)> {
    // The longest of them takes too long for a quick look.
    let workloads = WORKLOADS.iter().filter(|&&(_, _, cols)| extent == Extent::Whole || cols <= LONG);
    let mut shapes: Vec<_> = workloads.map(|&(_, rows, cols)| (Shape { rows, cols }, Layout::Contiguous)).collect();
    let step = if extent == Extent::Whole { 1 } else { 3 };
    for power in POWERS.step_by(step) {
        let cols = 1usize << power;
        let places = [
            (cols, Layout::Contiguous),
            (cols - 1, Layout::Contiguous),
            (cols + 1, Layout::Contiguous),
            (cols, Layout::Offset),
        ];
        shapes.extend(places.map(|(cols, layout)| (Shape { rows: MANY_ROWS, cols }, layout)));
    }
    shapes
}

/// The modes that a shape is run in.
fn modes(extent: Extent, pair: (DType, DType), cols: usize) -> Vec<Mode> {
    // What differs between modes is found with one pair; between pairs, with one mode.
    let every = extent == Extent::Whole || pair == PAIRS[0];
    if cols > LONG || !every { vec![Mode::Gradient] } else { Mode::ALL.to_vec() }
}

/// Row lengths at which a regime's range begins and ends: behind the end of the next shorter regime, and the longest
/// row, rounded down to whole packs of any type and as it is.
fn edges(device: &Device, pair: (DType, DType), regime: Regime, extent: Extent) -> Vec<usize> {
    let ends = |regime: Regime| regime.max_cols(device, pair.0, pair.1);
    let end = ends(regime);
    let begin = Regime::ALL.into_iter().map(ends).filter(|&other| other < end).max().unwrap_or(0) + 1;
    // A row of one element is no edge between regimes.
    let mut edges: Vec<u64> = Some(begin).filter(|&begin| begin > 1).into_iter().collect();
    if end != u64::MAX {
        edges.extend([end / 16 * 16, end]);
    }
    if extent == Extent::Quick {
        edges.retain(|&cols| cols <= LONG as u64);
    }
    edges.retain(|&cols| cols >= begin && cols <= end);
    edges.dedup();
    edges.into_iter().map(|cols| cols as usize).collect()
}

/// A run of a few rows of a shape in the regime that the plan selects for all of them.
fn selected(device: &Device, shape: Shape, pair: (DType, DType), mode: Mode, layout: Layout) -> Result<Run> {
    let plan = Plan::new(device, &problem(shape, pair, mode)).with_context(|| format!("no plan for {shape}"))?;
    let shape = Shape { rows: few(shape.cols).min(shape.rows), ..shape };
    Ok(Run { shape, pair, mode, layout, regime: plan.kernel.regime, selected: true })
}

/// A run in a given regime, if that holds the row on this device.
fn forced(device: &Device, shape: Shape, pair: (DType, DType), mode: Mode, regime: Regime) -> Result<Option<Run>> {
    match Plan::with_regime(device, &problem(shape, pair, mode), regime) {
        Ok(_) => Ok(Some(Run { shape, pair, mode, layout: Layout::Contiguous, regime, selected: false })),
        Err(Error::RegimeLimit { .. }) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("no plan for {shape} in regime {regime}")),
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.rows, self.cols)
    }
}

impl FromStr for Shape {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Shape> {
        let (rows, cols) = text.split_once('x').context("a shape is ROWSxCOLS")?;
        let shape = Shape { rows: rows.parse().context("rows")?, cols: cols.parse().context("columns")? };
        if shape.rows == 0 || shape.cols == 0 {
            bail!("a shape without elements moves nothing");
        }
        Ok(shape)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.0, self.1))
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Capability {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Capability> {
        let (major, minor) = text.split_once('.').context("a capability is MAJOR.MINOR, such as 9.0")?;
        Ok(Capability(major.parse().context("major")?, minor.parse().context("minor")?))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mode::Gradient => "gradient",
            Mode::Forward => "forward",
            Mode::InPlace => "in-place",
            Mode::Masked => "masked",
        })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Layout::Contiguous => "contiguous",
            Layout::Offset => "offset",
        })
    }
}

/// The regime of a name.
///
/// # Errors
/// There is none.
pub fn regime(name: &str) -> Result<Regime> {
    let found = Regime::ALL.into_iter().find(|regime| regime.module() == name);
    found.with_context(|| format!("no regime {name}; there are {}", Regime::ALL.map(Regime::module).join(", ")))
}

/// Place of a regime among the others: from the shortest rows to the longest.
pub fn order(name: &str) -> usize {
    Regime::ALL.into_iter().take_while(|regime| regime.module() != name).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Run = Run {
        shape: Shape { rows: 2, cols: 1024 },
        pair: PAIRS[1],
        mode: Mode::Gradient,
        layout: Layout::Contiguous,
        regime: Regime::Warp,
        selected: true,
    };

    #[test]
    fn shapes_and_capabilities_are_parsed() {
        assert_eq!("4x30938".parse::<Shape>().unwrap(), Shape { rows: 4, cols: 30_938 });
        for wrong in ["4", "x4", "4x", "0x4", "4x0", "4x-1", "4x4x4"] {
            assert!(wrong.parse::<Shape>().is_err(), "{wrong}");
        }
        assert_eq!("12.0".parse::<Capability>().unwrap(), Capability(12, 0));
        for wrong in ["90", "9.", ".0", "9.x"] {
            assert!(wrong.parse::<Capability>().is_err(), "{wrong}");
        }
        assert_eq!(regime("two_pass").unwrap(), Regime::TwoPass);
        assert!(regime("none").unwrap_err().to_string().contains("warp, block"));
    }

    #[test]
    fn whole_packs_of_scores_from_an_aligned_address_on_are_aligned() {
        let with = |cols, pair, layout| Run { shape: Shape { rows: 2, cols }, pair, layout, ..RUN };
        for (cols, pair, aligned) in
            [(1032, PAIRS[1], true), (1028, PAIRS[1], false), (1028, PAIRS[3], true), (1025, PAIRS[3], false)]
        {
            let run = with(cols, pair, Layout::Contiguous);
            assert_eq!(run.aligned(), aligned, "{cols}");
            let first = run.offsets()[0] * pair.0.size();
            assert_eq!(first.is_multiple_of(16), aligned, "the first row that is looked at is no exception");
        }
        assert!(!with(1024, PAIRS[1], Layout::Offset).aligned());
    }

    #[test]
    fn the_floor_is_everything_once() {
        let floor =
            |pair, mode, cols| Run { pair, mode, shape: Shape { rows: 2, cols }, ..RUN }.case().floor(mode.gradient());
        let elements = 2 * 1000;
        let loss = 2 * 4;
        for (pair, per_element) in PAIRS.into_iter().zip([6, 5, 6, 12, 9]) {
            assert_eq!(floor(pair, Mode::Gradient, 1000), per_element * elements + loss);
            assert_eq!(floor(pair, Mode::InPlace, 1000), per_element * elements + loss);
            let gradient = pair.0.size() as u64;
            assert_eq!(floor(pair, Mode::Forward, 1000), (per_element - gradient) * elements + loss);
            assert_eq!(
                floor(pair, Mode::Masked, 1000),
                (per_element + 1) * elements + loss + 2 * 4,
                "mask and upstream"
            );
        }
    }
}
