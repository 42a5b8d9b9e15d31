/* What is read of blocks of float32 values, in one pass each. See native.py, which compiles and calls it.

   Sums are made in float32 over a few hundred values at a time, and in double precision over these: as quick as float32,
   and as true as 1e-7. Squares that float32 cannot hold are summed once more in double precision, which can. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

enum { LANES = 16, BLOCK = 256, SIDE_BY_SIDE = 64 };
enum { /* the order of what is read of one call of a layer, as in statistics.py */
    SIZE, MEAN, SQUARED_DEVIATIONS, ABSMAX, NONFINITE, UNITS, ACTIVE, ACTIVE_UNITS, SATURATED,
    INPUTS_NONFINITE, GRAD_SIZE, GRAD_SQUARES, GRAD_NONFINITE, ABSENT, NO_GRADIENT
};
static const double LEAST = 1e-30, MOST = 1e37; /* sums of squares that float32 holds with room to spare */
static const double CANCELLATION = 1e-2;        /* of variance to mean square, below which digits are lost */

static double total(const double *lanes) {
    double sum = 0;
    for (int j = 0; j < LANES; j++) sum += lanes[j];
    return sum;
}

static inline double squares_in_double(const float *x, int64_t n, double mean) {
    const int64_t whole = n - n % LANES;
    double totals[LANES] = {0};
    for (int64_t i = 0; i < whole; i += LANES)
        for (int j = 0; j < LANES; j++) totals[j] += (x[i + j] - mean) * (x[i + j] - mean);
    double sum = total(totals);
    for (int64_t i = whole; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return sum;
}

static inline double sum_in_double(const float *x, int64_t n) {
    const int64_t whole = n - n % LANES;
    double totals[LANES] = {0};
    for (int64_t i = 0; i < whole; i += LANES)
        for (int j = 0; j < LANES; j++) totals[j] += x[i + j];
    double sum = total(totals);
    for (int64_t i = whole; i < n; i++) sum += x[i];
    return sum;
}

/* Sum of squares: NaN where there is a NaN, Inf where there is an Inf. */
WIDE double squares(const float *x, int64_t n) {
    const int64_t whole = n - n % LANES;
    double totals[LANES] = {0};
    for (int64_t i = 0; i < whole;) {
        const int64_t end = i + BLOCK < whole ? i + BLOCK : whole;
        float lanes[LANES] = {0};
        for (; i < end; i += LANES)
            for (int j = 0; j < LANES; j++) lanes[j] += x[i + j] * x[i + j];
        for (int j = 0; j < LANES; j++) totals[j] += lanes[j];
    }
    const double sum = total(totals) + squares_in_double(x + whole, n - whole, 0);
    return sum > LEAST && sum < MOST ? sum : squares_in_double(x, n, 0);
}

/* Mean, sum of squared deviations from it, and largest magnitude; not finite where a value is not. */
WIDE void moments(const float *x, int64_t n, double *found) {
    const int64_t whole = n - n % LANES;
    int32_t largest[LANES] = {0}, most = 0; /* the bits of magnitudes are in the order of magnitudes, NaN last */
    double sums[LANES] = {0}, squared_sums[LANES] = {0};
    for (int64_t i = 0; i < whole;) {
        const int64_t end = i + BLOCK < whole ? i + BLOCK : whole;
        float lanes[LANES] = {0}, squared_lanes[LANES] = {0};
        for (; i < end; i += LANES)
            for (int j = 0; j < LANES; j++) {
                int32_t bits;
                memcpy(&bits, x + i + j, sizeof bits);
                bits &= INT32_MAX;
                largest[j] = bits > largest[j] ? bits : largest[j];
                lanes[j] += x[i + j];
                squared_lanes[j] += x[i + j] * x[i + j];
            }
        for (int j = 0; j < LANES; j++) {
            sums[j] += lanes[j];
            squared_sums[j] += squared_lanes[j];
        }
    }
    double sum = total(sums), squared = total(squared_sums);
    for (int64_t i = whole; i < n; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= INT32_MAX;
        most = bits > most ? bits : most;
        sum += x[i];
        squared += (double)x[i] * x[i];
    }
    for (int j = 0; j < LANES; j++) most = largest[j] > most ? largest[j] : most;
    float magnitude;
    memcpy(&magnitude, &most, sizeof magnitude);
    double mean = sum / n, deviations = squared - sum * mean;
    if (!(deviations > LEAST && squared < MOST && deviations > CANCELLATION * squared)) {
        mean = sum_in_double(x, n) / n;
        deviations = squares_in_double(x, n, mean);
    }
    found[0] = mean;
    found[1] = deviations;
    found[2] = magnitude;
}

/* By unit, how many values are not 0; x has the shape (outer, units), */
WIDE void active_in_rows(const float *x, int64_t outer, int64_t units, float *counts) {
    int64_t done = 0; /* units */
    for (; done + SIDE_BY_SIDE <= units; done += SIDE_BY_SIDE) {
        float totals[SIDE_BY_SIDE] = {0};
        for (int64_t o = 0; o < outer; o++)
            for (int j = 0; j < SIDE_BY_SIDE; j++) totals[j] += x[o * units + done + j] != 0;
        memcpy(counts + done, totals, sizeof totals);
    }
    memset(counts + done, 0, (units - done) * sizeof *counts);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t u = done; u < units; u++) counts[u] += x[o * units + u] != 0;
}

/* or (outer, units, inner). */
WIDE void active(const float *x, int64_t outer, int64_t units, int64_t inner, float *counts) {
    memset(counts, 0, units * sizeof *counts);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t u = 0; u < units; u++, x += inner) {
            int32_t count = 0;
            for (int64_t i = 0; i < inner; i++) count += x[i] != 0;
            counts[u] += count;
        }
}

/* How many values are at least `far` from `middle`. */
WIDE int64_t away(const float *x, int64_t n, float middle, float far) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) count += fabsf(x[i] - middle) >= far;
    return count;
}

typedef struct { /* as in native.py */
    int64_t outer, units, inner;
    double middle, far;
} Form;

/* All that is read of an output of the shape (outer, units, inner), into `sums`, whose order is that of statistics.py: of
   its units where there are `counts` to fill, of its ends where `far` is above 0. Returns whether all values are finite;
   where they are not the sums are not to be used. */
int output(const float *x, const Form *form, float *counts, double *sums) {
    const int64_t units = form->units, n = form->outer * units * form->inner;
    moments(x, n, sums + MEAN);
    if (!isfinite(sums[ABSMAX])) return 0;
    sums[SIZE] = n;
    sums[NONFINITE] = sums[INPUTS_NONFINITE] = sums[ABSENT] = sums[NO_GRADIENT] = 0;
    sums[UNITS] = sums[GRAD_SIZE] = 1;
    sums[ACTIVE] = sums[ACTIVE_UNITS] = sums[SATURATED] = sums[GRAD_SQUARES] = sums[GRAD_NONFINITE] = NAN;
    if (counts) {
        if (form->inner == 1) active_in_rows(x, form->outer, units, counts);
        else active(x, form->outer, units, form->inner, counts);
        sums[UNITS] = units;
        sums[ACTIVE] = sums[ACTIVE_UNITS] = 0;
        for (int64_t u = 0; u < units; u++) {
            sums[ACTIVE] += counts[u];
            sums[ACTIVE_UNITS] += counts[u] != 0;
        }
    }
    if (form->far > 0) sums[SATURATED] = away(x, n, form->middle, form->far);
    return 1;
}

/* Of every `stride`-th value: how many there are in each column, which the first 16 bits tell, but for those that are 0. */
void magnitudes(const float *x, int64_t n, int64_t stride, const int8_t *columns, int64_t zeros, int32_t *counts) {
    for (int64_t i = 0; i < n; i += stride) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        counts[x[i] == 0 ? zeros : columns[bits >> 16]]++;
    }
}

/* Of several tensors at a time: their norms, and their values one after another in `copies` (where that is not null). */
void norms(const float *const *tensors, const int64_t *sizes, int64_t count, float *copies, double *found) {
    for (int64_t t = 0; t < count; t++) {
        found[t] = sqrt(squares(tensors[t], sizes[t]));
        if (copies) {
            memcpy(copies, tensors[t], sizes[t] * sizeof *copies);
            copies += sizes[t];
        }
    }
}

/* How far each of several tensors is from what `norms` has copied; the copies become the differences. */
void distances(const float *const *tensors, const int64_t *sizes, int64_t count, float *copies, double *found) {
    for (int64_t t = 0; t < count; copies += sizes[t++]) {
        for (int64_t i = 0; i < sizes[t]; i++) copies[i] -= tensors[t][i];
        found[t] = sqrt(squares(copies, sizes[t]));
    }
}
