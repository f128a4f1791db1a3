//! Shapes that users of this loss have.

/// Rows of workloads whose number is free.
const BATCH: usize = 1024;

/// Name, rows and columns.
pub const WORKLOADS: [(&str, usize, usize); 14] = [
    ("CMeEE, 16 x 9 heads of 256^2", 144, 65_536),
    ("CLUENER, 64 x 10 heads of 128^2", 640, 16_384),
    ("GPLinker, 64 x 100 heads of 128^2", 6_400, 16_384),
    ("GlobalPointer, 512^2", 160, 262_144),
    ("GlobalPointer, 1024^2", 40, 1_048_576),
    ("TPLinker+", 264_192, 220),
    ("AAPD", BATCH, 54),
    ("COCO", BATCH, 80),
    ("RCV1", BATCH, 103),
    ("EUR-Lex", BATCH, 3_956),
    ("AmazonCat", BATCH, 13_330),
    ("Wiki10", BATCH, 30_938),
    ("Amazon-670K", BATCH, 670_091),
    ("Amazon-3M", BATCH, 2_812_281),
];
