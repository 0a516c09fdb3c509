/* The numbers of the water cloud model and its units, once for every tier; kgsm_infer/kernels/wcm.py
 * has the same (tests/kernels/test_constants.py compares). */
#ifndef KGSM_WCM_CONSTANTS_H
#define KGSM_WCM_CONSTANTS_H

/* VWC of foliage, kg m-2, is 1.9134 N**2 - 0.3215 N where that is positive (SMAP ancillary report,
 * Chan et al. 2013). It is computed as 1.9134 N (N - root), the root in two floats: 0.1680255. */
#define VWC_NDVI2 1.9134f
#define VWC_ROOT 0x1.581dc2p-3f
#define VWC_ROOT_LOW (-0x1.1f9a1ap-28f)

#define RADIANS 0.0174532925199432958f           /* of a degree */
#define DB_TO_NEPER 0.230258509299404568f        /* ln(10) / 10 */
#define NEPER_TO_DB 4.34294481903251828f         /* 10 / ln(10) */
#define NEPER_TO_BITS 1.44269504088896341f       /* log2(e) */
#define LOG2_10_TENTH 0x1.542a5ap-2f             /* log2(10) / 10: 1 dB of power in bits */
#define LOG2_10_TENTH_LOW 0x1.2e1c5ap-30f        /* what float32 leaves of it */
#define TEN_LOG10_2 3.01029995663981195f         /* 1 bit of power in dB */

#endif
