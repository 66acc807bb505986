//! Node numbers. They hold everything the server needs to find the node again, so it keeps no table of them and a new
//! server understands the numbers that the kernel got from an old one. The packing is therefore a format:
//!
//! ```text
//! 1                        the root
//! 2, 3                     by-image, by-user
//! 1<<53 | view<<52 | slot<<32 | node   a node of the image in `slot`; slot < 2^20
//! ```
//!
//! Everything stays below 2^54: overlayfs (`xino=on`) needs the upper bits for itself.

use crate::yard::View;

/// Where a node number points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Root,
    View(View),
    Node { view: View, slot: u32, node: u32 },
}

const MARK: u64 = 1 << 53;
const BY_USER: u64 = 1 << 52;
const SLOT_SHIFT: u32 = 32;
/// Slots from here on do not fit.
pub(crate) const SLOTS: u32 = 1 << 20;

impl Place {
    /// The number of a place; `None` when the slot does not fit.
    pub(crate) fn number(self) -> Option<u64> {
        match self {
            Place::Root => Some(1),
            Place::View(View::ByImage) => Some(2),
            Place::View(View::ByUser) => Some(3),
            Place::Node { slot, .. } if slot >= SLOTS => None,
            Place::Node { view, slot, node } => {
                let view = if view == View::ByUser { BY_USER } else { 0 };
                Some(MARK | view | (u64::from(slot) << SLOT_SHIFT) | u64::from(node))
            }
        }
    }

    /// The place of a number.
    pub(crate) fn of(number: u64) -> Option<Place> {
        match number {
            1 => Some(Place::Root),
            2 => Some(Place::View(View::ByImage)),
            3 => Some(Place::View(View::ByUser)),
            _ if number & MARK == 0 || number >= MARK << 1 => None,
            _ => {
                let view = if number & BY_USER == 0 { View::ByImage } else { View::ByUser };
                let slot = u32::try_from((number & (BY_USER - 1)) >> SLOT_SHIFT).ok()?;
                let node = u32::try_from(number & u64::from(u32::MAX)).ok()?;
                Some(Place::Node { view, slot, node })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_place_comes_back_and_stays_clear_of_the_bits_of_overlayfs(user: bool, slot in 0..SLOTS, node: u32) {
            let view = if user { View::ByUser } else { View::ByImage };
            let place = Place::Node { view, slot, node };
            let number = place.number().unwrap();
            prop_assert!(number < 1 << 54);
            prop_assert_eq!(Place::of(number), Some(place));
        }

        #[test]
        fn any_number_is_refused_or_is_the_number_of_its_place(number: u64) {
            if let Some(place) = Place::of(number) {
                prop_assert_eq!(place.number(), Some(number));
            }
        }
    }

    #[test]
    fn the_packing_is_pinned() {
        // Changing it breaks every mount that a running server would take over.
        let place = Place::Node { view: View::ByUser, slot: 7, node: 9 };
        assert_eq!(place.number(), Some(0x30_0007_0000_0009));
        assert_eq!(Place::Node { view: View::ByImage, slot: SLOTS, node: 0 }.number(), None);
        assert_eq!((Place::of(0), Place::of(4)), (None, None));
    }
}
