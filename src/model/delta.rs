//! A list as what differs from an earlier one: of thousands of sessions few change from one second to the next.
//!
//! It must not know what is listed.

use std::hash::Hash;

use foldhash::{HashMap, HashMapExt as _};
use serde::{Deserialize, Serialize};

/// What makes a list of an earlier one, piece by piece.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delta<T>(Vec<Piece<T>>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Piece<T> {
    /// So many items of the earlier list, from this place on.
    Same(usize, usize),
    /// Items that are not in it.
    New(Vec<T>),
}

impl<T: Clone + PartialEq> Delta<T> {
    /// What makes `now` of `before`. Items that are equal have the same key, and few others share it.
    pub fn between<K: Eq + Hash>(before: &[T], now: &[T], key: impl Fn(&T) -> K) -> Self {
        let mut places: Option<HashMap<K, Vec<usize>>> = None;
        let mut pieces: Vec<Piece<T>> = Vec::new();
        // Where the earlier list goes on after what was found last: mostly the next is found there.
        let mut next = 0;
        for item in now {
            let found = if before.get(next) == Some(item) {
                Some(next)
            } else {
                let places = places.get_or_insert_with(|| places_by(before, &key));
                let of_key = places.get(&key(item)).into_iter().flatten();
                of_key.copied().find(|place| before.get(*place) == Some(item))
            };
            match (found, pieces.last_mut()) {
                (Some(place), Some(Piece::Same(first, count))) if *first + *count == place => *count += 1,
                (Some(place), _) => pieces.push(Piece::Same(place, 1)),
                (None, Some(Piece::New(items))) => items.push(item.clone()),
                (None, _) => pieces.push(Piece::New(vec![item.clone()])),
            }
            // What is new stands, mostly, for what was at this place.
            next = found.unwrap_or(next) + 1;
        }
        Self(pieces)
    }

    /// The list; `None` where this was made for another one, or where it would have more than `most` items.
    pub fn applied_to(&self, before: &[T], most: usize) -> Option<Vec<T>> {
        let mut now = Vec::new();
        for piece in &self.0 {
            let items = match piece {
                Piece::Same(first, count) => before.get(*first..first.checked_add(*count)?)?,
                Piece::New(items) => items,
            };
            if most.saturating_sub(now.len()) < items.len() {
                return None;
            }
            now.extend_from_slice(items);
        }
        Some(now)
    }

    /// The same with each new item changed.
    #[must_use]
    pub fn map_new(mut self, mut change: impl FnMut(&mut T)) -> Self {
        for piece in &mut self.0 {
            if let Piece::New(items) = piece {
                items.iter_mut().for_each(&mut change);
            }
        }
        self
    }
}

fn places_by<T, K: Eq + Hash>(list: &[T], key: impl Fn(&T) -> K) -> HashMap<K, Vec<usize>> {
    let mut places: HashMap<K, Vec<usize>> = HashMap::with_capacity(list.len());
    for (place, item) in list.iter().enumerate() {
        places.entry(key(item)).or_default().push(place);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn delta(before: &[u32], now: &[u32]) -> Delta<u32> {
        Delta::between(before, now, |item| item % 3)
    }

    proptest! {
        #[test]
        fn what_differs_gives_the_list_again(
            before in prop::collection::vec(0..12_u32, 0..20),
            now in prop::collection::vec(0..12_u32, 0..20),
        ) {
            prop_assert_eq!(delta(&before, &now).applied_to(&before, usize::MAX), Some(now));
        }
    }

    #[test]
    fn a_list_in_which_one_has_changed_is_three_pieces() {
        let (before, now) = ([1, 2, 3, 4, 5], [1, 2, 9, 4, 5]);
        let pieces = vec![Piece::Same(0, 2), Piece::New(vec![9]), Piece::Same(3, 2)];
        assert_eq!(delta(&before, &now), Delta(pieces));
        assert_eq!(delta(&before, &before), Delta(vec![Piece::Same(0, 5)]));
    }

    #[test]
    fn a_list_of_which_all_has_changed_is_not_compared_item_by_item() {
        use std::cell::Cell;
        #[derive(Debug, Clone)]
        struct Item<'a>(u32, u32, &'a Cell<u32>);
        impl PartialEq for Item<'_> {
            fn eq(&self, other: &Self) -> bool {
                self.2.set(self.2.get() + 1);
                (self.0, self.1) == (other.0, other.1)
            }
        }
        let compared = Cell::new(0);
        let list = |version| (0..1000).map(|n| Item(n, version, &compared)).collect::<Vec<_>>();
        let (before, now) = (list(1), list(2));
        assert_eq!(Delta::between(&before, &now, |item| item.0).0.len(), 1);
        assert!(compared.get() <= 3_000, "{} comparisons", compared.get());
    }

    #[test]
    fn what_was_made_for_a_longer_list_is_refused() {
        assert_eq!(delta(&[1, 2, 3], &[1, 2, 3]).applied_to(&[1, 2], 9), None);
        assert_eq!(Delta(vec![Piece::Same(1, usize::MAX)]).applied_to(&[1_u32, 2], 9), None);
    }

    #[test]
    fn what_would_grow_beyond_all_bounds_is_refused() {
        let twice = Delta(vec![Piece::Same(0, 2), Piece::Same(0, 2)]);
        assert_eq!(twice.applied_to(&[1_u32, 2], 4), Some(vec![1, 2, 1, 2]));
        assert_eq!(twice.applied_to(&[1_u32, 2], 3), None);
    }
}
