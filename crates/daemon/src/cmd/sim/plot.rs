//! The curves of a simulated network as an SVG file. It draws what it is given and computes nothing.

use super::Args;
use peerkeep_sim::plan::{Report, Sample};
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

type Drawn<T = ()> = Result<T, Box<dyn Error>>;
type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// A curve: its name, its colour and its value in a sample.
type Curve = (&'static str, RGBColor, fn(&Sample) -> f64);

const SIZE: (u32, u32) = (960, 720);
const BLUE: RGBColor = RGBColor(31, 119, 180);
const GREEN: RGBColor = RGBColor(44, 160, 44);
const RED: RGBColor = RGBColor(214, 39, 40);

/// Draws the shares above and the dials below.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(file: &Path, args: &Args, report: &Report) -> Drawn {
    // The backend writes when it is dropped and says nothing when that fails: ask before.
    std::fs::File::create(file)?;
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!(
        "{} nodes, {} % loss, {} % churn a minute, {} % behind NAT, seed {}",
        args.nodes, args.loss, args.churn, args.nat, args.seed
    );
    let root = root.titled(&title, ("sans-serif", 20))?;
    let (above, below) = root.split_vertically(SIZE.1 / 2);
    let minutes = args.minutes as f64;
    let shares: [Curve; 2] = [
        ("connections they want and have, %", BLUE, |sample| sample.connected_share * 100.0),
        ("nodes in one group, %", GREEN, |sample| sample.reachable_share * 100.0),
    ];
    panel(&above, (minutes, 105.0), &report.samples, &shares)?;
    let dials: [Curve; 2] = [
        ("dials so far", BLUE, |sample| sample.dials as f64),
        ("of them wasted", RED, |sample| sample.wasted as f64),
    ];
    let most = report.samples.last().map_or(1.0, |sample| sample.dials as f64 * 1.05).max(1.0);
    panel(&below, (minutes, most), &report.samples, &dials)?;
    root.present()?;
    Ok(())
}

fn panel(area: &Canvas<'_>, (right, top): (f64, f64), samples: &[Sample], curves: &[Curve]) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart.configure_mesh().x_desc("minutes").light_line_style(WHITE).draw()?;
    for (name, colour, value) in curves {
        let points = samples.iter().map(|sample| (sample.at.as_secs_f64() / 60.0, value(sample)));
        let series = chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
        let colour = *colour;
        series.label(*name).legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
