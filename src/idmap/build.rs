//! Which map a service gets. Pure. "Host" means the namespace that U0 is nested in, usually the initial one.

use super::{Extent, IdMap, IdMaps, IdRange, Subordinate};
use crate::resolve::IdKind;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// The largest id of a `range` container, as images know ids: 65534 is `nobody`.
pub const MOST: u32 = 65_535;

/// How many ids a range should have: what `useradd` gives, and `private` services need, whose ids come from [`HOLE`].
pub const USUAL: u32 = 65_536;

/// The first kernel that shows images through the map of a `private` service (FUSE_ALLOW_IDMAP).
pub const IDMAPPED_FUSE: (u32, u32) = (6, 12);

/// U0's ids that no `range` container has, so that slices of `private` services come from them. systemd's table of ids (UIDS-GIDS.md) has
/// these for users that exist only while their service runs, so no image has files of theirs.
pub const HOLE: RangeInclusive<u32> = 61_184..=65_519;

/// The maps of U0: the user's own ids at 0, the ranges after them.
#[must_use]
pub fn u0(uid: u32, gid: u32, subordinate: Option<&Subordinate>) -> IdMaps {
    let map = |own: u32, extents: &[Extent]| {
        let mut lines = vec![IdRange::single(0, own)];
        let mut next = 1_u32;
        for extent in extents {
            // As many as there are numbers for; nobody has so many.
            let count = extent.count.min((u32::MAX - 1).saturating_sub(next));
            lines.push(IdRange { inside: next, outside: extent.first, count });
            next += count;
        }
        lines.retain(|line| line.count > 0);
        IdMap(lines)
    };
    match subordinate.filter(|subordinate| subordinate.is_usable()) {
        Some(subordinate) => IdMaps { uids: map(uid, &subordinate.uids), gids: map(gid, &subordinate.gids) },
        None => IdMaps { uids: map(uid, &[]), gids: map(gid, &[]) },
    }
}

/// `user`: the service's ids are the user's own.
#[must_use]
pub fn user(service: (u32, u32), own: (u32, u32)) -> IdMaps {
    let single = |inside, outside| IdMap(vec![IdRange::single(inside, outside)]);
    IdMaps { uids: single(service.0, own.0), gids: single(service.1, own.1) }
}

/// `range`: ids up to [`MOST`] are those of U0, but for [`HOLE`]. In ids of the host, like everything that is kept.
#[must_use]
pub fn range(u0: &IdMaps) -> IdMaps {
    let map = |u0: &IdMap| {
        let parts = [0..=HOLE.start() - 1, HOLE.end() + 1..=MOST];
        let clip = |line: &IdRange, part: &RangeInclusive<u32>| {
            let first = line.inside.max(*part.start());
            let last = line.inside.saturating_add(line.count - 1).min(*part.end());
            (first <= last).then(|| IdRange {
                inside: first,
                outside: line.outside + (first - line.inside),
                count: last - first + 1,
            })
        };
        IdMap(u0.0.iter().flat_map(|line| parts.iter().filter_map(move |part| clip(line, part))).collect())
    };
    IdMaps { uids: map(&u0.uids), gids: map(&u0.gids) }
}

/// The ids that a `private` service needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Users.
    pub uids: BTreeSet<u32>,
    /// Groups.
    pub gids: BTreeSet<u32>,
}

impl Needs {
    /// Root (whom the set-up acts as), the service's own ids, and the extra ones as users and as groups.
    #[must_use]
    pub fn of(service: (u32, u32), extra: &[u32]) -> Needs {
        let with = |own: u32| [0, own].into_iter().chain(extra.iter().copied()).collect();
        Needs { uids: with(service.0), gids: with(service.1) }
    }
}

/// `private`: each needed id onto one of [`HOLE`], or beyond [`MOST`], that is not `taken` (ids of the host). What `kept` has of an
/// earlier install stays as it is, whether it is needed now or not: files may belong to it. `None` when too few ids are free.
#[must_use]
pub fn private(needs: &Needs, kept: &IdMaps, taken: &IdMaps, u0: &IdMaps) -> Option<IdMaps> {
    let map = |needs: &BTreeSet<u32>, kept: &IdMap, taken: &IdMap, u0: &IdMap| {
        let used: BTreeSet<u32> =
            [kept, taken].into_iter().flat_map(|map| &map.0).flat_map(|line| line.outside..line.outside + line.count).collect();
        let beyond = MOST + 1..=u32::try_from(u0.len()).unwrap_or(u32::MAX);
        let mut free = HOLE.chain(beyond).map_while(|id| u0.outside(id)).filter(|id| !used.contains(id));
        let mut lines = kept.0.clone();
        for id in needs.iter().filter(|id| !kept.has(**id)) {
            lines.push(IdRange::single(*id, free.next()?));
        }
        Some(IdMap(lines))
    };
    Some(IdMaps {
        uids: map(&needs.uids, &kept.uids, &taken.uids, &u0.uids)?,
        gids: map(&needs.gids, &kept.gids, &taken.gids, &u0.gids)?,
    })
}

/// The map for an image without a recipe that runs as `uid`: one that starts as root most likely drops to another user, for which it
/// needs a range; without one it is root alone.
#[must_use]
pub fn kind_for_image(uid: u32, user_has_range: bool) -> IdKind {
    if uid == 0 && user_has_range { IdKind::Range } else { IdKind::User }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subordinate(uids: &[(u32, u32)], gids: &[(u32, u32)]) -> Subordinate {
        let list = |list: &[(u32, u32)]| list.iter().map(|&(first, count)| Extent { first, count }).collect();
        Subordinate { uids: list(uids), gids: list(gids) }
    }

    fn usual() -> IdMaps {
        u0(1000, 1000, Some(&subordinate(&[(100_000, 65_536)], &[(200_000, 65_536)])))
    }

    #[test]
    fn u0_has_the_user_first_and_then_all_ranges() {
        assert_eq!(u0(1000, 100, None).uids.to_string(), "0 1000 1\n");
        let maps = u0(1000, 100, Some(&subordinate(&[(100_000, 10), (300_000, 5)], &[(7, 1)])));
        assert_eq!(maps.uids.to_string(), "0 1000 1\n1 100000 10\n11 300000 5\n");
        assert_eq!(maps.gids.to_string(), "0 100 1\n1 7 1\n");
        // Users without groups make no map.
        assert_eq!(u0(1000, 100, Some(&subordinate(&[(7, 1)], &[]))).uids.to_string(), "0 1000 1\n");
    }

    #[test]
    fn a_range_container_has_the_ids_of_u0_but_for_the_hole() {
        let maps = range(&usual());
        assert_eq!(maps.uids.to_string(), "0 1000 1\n1 100000 61183\n65520 165519 16\n");
        assert_eq!((maps.uids.outside(999), maps.gids.outside(65_534)), (Some(100_998), Some(265_533)));
        assert!(HOLE.chain(MOST + 1..70_000).all(|id| !maps.uids.has(id)));
        let nested = maps.uids.nested_in(&usual().uids).unwrap();
        assert!(nested.0.iter().all(|line| line.inside == line.outside), "{nested}");
        let small = u0(1000, 1000, Some(&subordinate(&[(100_000, 10)], &[(100_000, 10)])));
        assert_eq!(range(&small), small);
        assert_eq!(range(&u0(1000, 1000, None)).uids.len(), 1);
    }

    #[test]
    fn a_private_service_keeps_its_ids_and_takes_none_of_others() {
        let needs = Needs::of((999, 998), &[33]);
        let none = IdMaps::default();
        let first = private(&needs, &none, &none, &usual()).unwrap();
        // U0's 61184 is the range's 61183rd after 100000.
        assert_eq!(first.uids.to_string(), "0 161183 1\n33 161184 1\n999 161185 1\n");
        assert_eq!(first.gids.to_string(), "0 261183 1\n33 261184 1\n998 261185 1\n");
        let second = private(&needs, &none, &first, &usual()).unwrap();
        assert_eq!(second.uids.outside(0), Some(161_186));
        // An update that needs one more, and one less.
        let more = private(&Needs::of((999, 998), &[34]), &first, &second, &usual()).unwrap();
        assert_eq!(more.uids.to_string(), "0 161183 1\n33 161184 1\n999 161185 1\n34 161189 1\n");
        let range = range(&usual());
        assert!([&first, &second].iter().all(|maps| maps.uids.0.iter().all(|line| range.uids.inside(line.outside).is_none())));
    }

    #[test]
    fn a_range_without_the_hole_is_too_small_and_a_full_one_goes_on_beyond() {
        let none = IdMaps::default();
        let needs = Needs::of((1, 1), &[]);
        for count in [0, 10, 61_183, 61_184] {
            let small = u0(1000, 1000, Some(&subordinate(&[(100_000, count)], &[(100_000, 65_536)])));
            assert_eq!(private(&needs, &none, &none, &small), None, "{count}");
        }
        let all = |first| IdMap(vec![IdRange { inside: 0, outside: first, count: 4336 }]);
        let taken = IdMaps { uids: all(161_183), gids: all(261_183) };
        // One is left beyond 65535: the range has 65536 ids, and U0 has the user's own before them.
        assert_eq!(private(&needs, &none, &taken, &usual()), None);
        assert_eq!(private(&Needs::of((0, 0), &[]), &none, &taken, &usual()).unwrap().uids.to_string(), "0 165535 1\n");
    }

    #[test]
    fn images_that_start_as_root_get_what_there_is() {
        assert_eq!(kind_for_image(0, true), IdKind::Range);
        assert_eq!(kind_for_image(0, false), IdKind::User);
        assert_eq!(kind_for_image(999, true), IdKind::User);
    }

    proptest! {
        #[test]
        fn private_services_never_share_an_id(
            services in proptest::collection::vec((0_u32..70_000, proptest::collection::vec(0_u32..70_000, 0..5)), 1..12),
        ) {
            let mut taken = IdMaps::default();
            let mut seen = BTreeSet::new();
            for (id, extra) in services {
                let maps = private(&Needs::of((id, id), &extra), &IdMaps::default(), &taken, &usual()).unwrap();
                for line in &maps.uids.0 {
                    prop_assert!(seen.insert(line.outside));
                    prop_assert!(usual().uids.inside(line.outside).is_some());
                }
                prop_assert!(maps.uids.has(0) && maps.uids.has(id) && extra.iter().all(|id| maps.uids.has(*id)));
                taken.uids.0.extend(maps.uids.0);
                taken.gids.0.extend(maps.gids.0);
            }
        }
    }
}
