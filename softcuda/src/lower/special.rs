//! Special registers that keep their value while a warp runs.

/// A special register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named after the special registers; the index is the dimension")]
pub enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    DynamicSharedSize,
    TotalSharedSize,
    AggregateSharedSize,
    ClusterId(u8),
    NClusterId(u8),
    ClusterCtaId(u8),
    ClusterNctaId(u8),
    ClusterCtaRank,
    ClusterNctaRank,
    Zero,
}

impl Special {
    /// The special register with this name.
    pub fn parse(name: &str) -> Option<Special> {
        type OfDimension = fn(u8) -> Special;
        let dimensions: [(&str, OfDimension); 8] = [
            ("%tid.", Special::Tid),
            ("%ntid.", Special::Ntid),
            ("%ctaid.", Special::Ctaid),
            ("%nctaid.", Special::Nctaid),
            ("%clusterid.", Special::ClusterId),
            ("%nclusterid.", Special::NClusterId),
            ("%cluster_ctaid.", Special::ClusterCtaId),
            ("%cluster_nctaid.", Special::ClusterNctaId),
        ];
        for (prefix, special) in dimensions {
            if let Some(dimension) = name.strip_prefix(prefix) {
                return Some(match dimension {
                    "x" => special(0),
                    "y" => special(1),
                    "z" => special(2),
                    "w" => Special::Zero,
                    _ => return None,
                });
            }
        }
        if let Some(number) = name.strip_prefix("%envreg") {
            return number.parse::<u8>().ok().filter(|&number| number < 32).map(|_| Special::Zero);
        }
        Some(match name {
            "%laneid" => Special::LaneId,
            "%warpid" => Special::WarpId,
            "%nwarpid" => Special::NWarpId,
            "%smid" => Special::SmId,
            "%nsmid" => Special::NSmId,
            "%gridid" => Special::GridId,
            "%lanemask_eq" => Special::LaneMaskEq,
            "%lanemask_le" => Special::LaneMaskLe,
            "%lanemask_lt" => Special::LaneMaskLt,
            "%lanemask_ge" => Special::LaneMaskGe,
            "%lanemask_gt" => Special::LaneMaskGt,
            "%dynamic_smem_size" => Special::DynamicSharedSize,
            "%total_smem_size" => Special::TotalSharedSize,
            "%aggr_smem_size" => Special::AggregateSharedSize,
            "%cluster_ctarank" => Special::ClusterCtaRank,
            "%cluster_nctarank" => Special::ClusterNctaRank,
            _ => return None,
        })
    }
}
