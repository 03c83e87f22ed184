//! A trend in one line of text: one character a slot, the newest at the right, gaps kept, zero told from small.

use sparklines::StringSpark;

use crate::app::{Role, Scale, Span};
use crate::engine::Series;

/// Steps from nothing to full.
const BLOCK: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 9] = [' ', '.', ',', '-', '=', '+', '*', '%', '#'];
/// Stands where nothing is known.
const GAP: char = '·';
const ASCII_GAP: char = '_';

/// Draws the series, as wide as it has slots. A value above zero shows at least the lowest mark.
pub(in crate::ui) fn inline(series: &Series, scale: Scale, ascii: bool) -> String {
    let ticks = if ascii { &ASCII } else { &BLOCK };
    let ceiling = match scale {
        Scale::Percent => 1.0,
        Scale::ZeroToMax(least) => series
            .iter()
            .flatten()
            .copied()
            .filter(|v| v.is_finite())
            .fold(least.max(f64::MIN_POSITIVE), f64::max),
    };
    // The crate leaves gaps out and would shift the time axis, so it is asked for one slot at a time.
    let Ok(spark) = StringSpark::<sparklines::BuildAlgorithmicIndexer>::new_with_min_max(ticks, 0.0, ceiling)
    else {
        return String::new();
    };
    let gap = if ascii { ASCII_GAP } else { GAP };
    let lowest = ticks.get(1).copied().unwrap_or_default();
    series
        .iter()
        .map(|slot| match slot.filter(|value| value.is_finite()) {
            None => gap,
            Some(value) if value <= 0.0 => ' ',
            Some(value) => spark.spark(&[value]).chars().next().filter(|c| *c != ' ').unwrap_or(lowest),
        })
        .collect()
}

/// The same in spans, so wide; the place of the moment that is looked at stands out.
pub(in crate::ui) fn spans(
    (series, place): (Series, Option<usize>),
    width: usize,
    scale: Scale,
    ascii: bool,
) -> Vec<Span> {
    let drawn = format!("{:>width$}", inline(&series, scale, ascii));
    let Some(place) = place.map(|place| place + width.saturating_sub(series.len())) else {
        return vec![Span::new(Role::Dim, drawn)];
    };
    let part = |role, range: std::ops::Range<usize>| {
        Span::new(role, drawn.chars().skip(range.start).take(range.len()).collect::<String>())
    };
    vec![part(Role::Dim, 0..place), part(Role::Selected, place..place + 1), part(Role::Dim, place + 1..width)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    #[test]
    fn gaps_zeros_and_small_values_are_told_apart() {
        let series = vec![Some(0.0), None, Some(0.001), Some(50.0), Some(100.0), Some(f64::NAN)];
        assert_eq!(inline(&series, Scale::ZeroToMax(1.0), false), " ·▁▄█·");
        assert_eq!(inline(&series, Scale::ZeroToMax(1.0), true), " _.=#_");
        assert_eq!(inline(&vec![Some(1.0), Some(0.5)], Scale::Percent, false), "█▄");
    }

    proptest! {
        #[test]
        fn a_trend_is_as_wide_as_its_series_and_never_falls_with_its_value(values in prop::collection::vec(prop::option::of(0.0..1e9_f64), 0..40)) {
            let drawn: Vec<char> = inline(&values, Scale::ZeroToMax(1.0), false).chars().collect();
            prop_assert_eq!(drawn.len(), values.len());
            let height = |c: char| BLOCK.iter().position(|tick| *tick == c);
            for (a, ca) in values.iter().zip(&drawn) {
                prop_assert_eq!(a.is_none(), *ca == GAP);
                for (b, cb) in values.iter().zip(&drawn) {
                    if let (Some(a), Some(b)) = (a, b) && a <= b {
                        prop_assert!(height(*ca) <= height(*cb));
                    }
                }
            }
        }
    }
}
