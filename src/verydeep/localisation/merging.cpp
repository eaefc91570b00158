// Greedy merging of boxes: see merging.py, whose NumPy gives the same boxes to the last bit.
//
// Every box knows its best partner and their IoU, and an upper bound of its IoU with all others. When the partner is gone
// the bound takes its place, and the row of the box is computed again only once that is the highest of all. A merged box
// is compared with every other, so most of those whose partner it has swallowed find their new one in it: a merge costs
// little more than one row.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#if defined(__linux__) && defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_VECTOR __attribute__((target_clones("avx2", "default")))  // no FMA: it would round otherwise
#else
#define FOR_EACH_VECTOR
#endif

namespace {

constexpr double tiny = std::numeric_limits<double>::min();
constexpr double gone = std::numeric_limits<double>::denorm_min();  // bound of a box that was merged into another
constexpr int64_t block = 128;  // looked through one by one only where a vectorised pass finds something

struct Boxes {  // one array for each number of n boxes
    std::vector<double> left, top, right, bottom, area, count, bound, second, row;
    std::vector<int64_t> partner, place;  // place: among the boxes given
    std::vector<char> stale;              // whether the partner is gone, and bound is that of all others
    int64_t n;

    void move(int64_t from, int64_t to) {
        for (auto* one : {&left, &top, &right, &bottom, &area, &count, &bound, &second}) (*one)[to] = (*one)[from];
        partner[to] = partner[from], place[to] = place[from], stale[to] = stale[from];
    }
};

double clipped(double side) { return side > 0 ? side : 0; }

FOR_EACH_VECTOR
void overlaps(const double* __restrict left, const double* __restrict top, const double* __restrict right,
              const double* __restrict bottom, const double* __restrict area, int64_t from, int64_t n, int64_t i,
              double* __restrict row) {
    const double l = left[i], t = top[i], r = right[i], b = bottom[i], a = area[i];
    for (int64_t k = from; k < n; ++k) {
        double width = (right[k] < r ? right[k] : r) - (left[k] > l ? left[k] : l);
        double height = (bottom[k] < b ? bottom[k] : b) - (top[k] > t ? top[k] : t);
        width = width > 0 ? width : 0;
        height = height > 0 ? height : 0;
        const double intersection = width * height, both = area[k] + a - intersection;
        row[k] = intersection / (both > tiny ? both : tiny);
    }
}

// Raises second to row; says whether a row reaches its bound or is above a limit.
FOR_EACH_VECTOR
int64_t raise(const double* __restrict row, const double* __restrict bound, double* __restrict second, int64_t n,
              double limit) {
    int64_t found = 0;
    for (int64_t k = 0; k < n; ++k) {
        found |= (row[k] >= bound[k]) | (row[k] > limit);
        second[k] = row[k] > second[k] ? row[k] : second[k];
    }
    return found;
}

FOR_EACH_VECTOR
int64_t any_above(const double* values, int64_t n, double limit) {
    int64_t found = 0;
    for (int64_t k = 0; k < n; ++k) found |= values[k] > limit;
    return found;
}

FOR_EACH_VECTOR
int64_t any_of(const int64_t* values, int64_t n, int64_t i, int64_t j) {
    int64_t found = 0;
    for (int64_t k = 0; k < n; ++k) found |= (values[k] == i) | (values[k] == j);
    return found;
}

// Compares box i with all boxes from one on: finds its best partner, starting from the one it has, and tells the others.
void compare(Boxes& boxes, int64_t i, int64_t from) {
    double* row = boxes.row.data();
    overlaps(boxes.left.data(), boxes.top.data(), boxes.right.data(), boxes.bottom.data(), boxes.area.data(), from,
             boxes.n, i, row);
    if (from <= i) row[i] = -1;
    double best = boxes.bound[i], second = boxes.second[i];
    int64_t partner = boxes.partner[i];
    for (int64_t start = from; start < boxes.n; start += block) {
        const int64_t end = std::min(start + block, boxes.n);
        if (!raise(row + start, &boxes.bound[start], &boxes.second[start], end - start, second)) continue;
        for (int64_t k = start; k < end; ++k) {
            if (row[k] > best) {
                second = best, best = row[k], partner = k;
            } else if (row[k] > second) {
                second = row[k];
            }
            if (row[k] > boxes.bound[k]) {
                boxes.second[k] = boxes.bound[k], boxes.bound[k] = row[k], boxes.partner[k] = i, boxes.stale[k] = 0;
            } else if (row[k] == boxes.bound[k] && !boxes.stale[k] && i < boxes.partner[k]) {
                boxes.partner[k] = i;
            }
        }
    }
    boxes.bound[i] = best, boxes.second[i] = second, boxes.partner[i] = partner, boxes.stale[i] = 0;
}

void refresh(Boxes& boxes, int64_t i) {
    boxes.bound[i] = boxes.second[i] = -1, boxes.partner[i] = i;
    compare(boxes, i, 0);
}

int64_t first_highest(const std::vector<double>& bound, int64_t n) {
    int64_t highest = 0;
    for (int64_t start = 0; start < n; start += block) {
        const int64_t end = std::min(start + block, n);
        if (!any_above(&bound[start], end - start, bound[highest])) continue;
        for (int64_t k = start; k < end; ++k)
            if (bound[k] > bound[highest]) highest = k;
    }
    return highest;
}

void forget_partners(Boxes& boxes, int64_t i, int64_t j) {
    for (int64_t start = 0; start < boxes.n; start += block) {
        const int64_t end = std::min(start + block, boxes.n);
        if (!any_of(&boxes.partner[start], end - start, i, j)) continue;
        for (int64_t k = start; k < end; ++k)
            if (boxes.partner[k] == i || boxes.partner[k] == j) boxes.bound[k] = boxes.second[k], boxes.stale[k] = 1;
    }
}

// Leaves the boxes out that have been merged into others; the order remains.
void compact(Boxes& boxes) {
    std::vector<int64_t> moved(boxes.n);
    int64_t kept = 0;
    for (int64_t k = 0; k < boxes.n; ++k) {
        moved[k] = kept;
        if (boxes.count[k] > 0) boxes.move(k, kept++);
    }
    boxes.n = kept;
    // of a stale box, or one that overlaps none, it may be any
    for (int64_t k = 0; k < kept; ++k) boxes.partner[k] = std::min(moved[boxes.partner[k]], kept - 1);
}

// corners: n,4, left, top, right, bottom; overwritten with the merged boxes where they remain.
// into: for each box given the one that it was merged into, or itself.
void merge(double* corners, int64_t* into, int64_t n, double threshold) {
    threshold = std::max(threshold, gone);
    Boxes boxes;
    for (auto* one : {&boxes.left, &boxes.top, &boxes.right, &boxes.bottom, &boxes.area, &boxes.row}) one->resize(n);
    boxes.count.assign(n, 1), boxes.bound.assign(n, -1), boxes.second.assign(n, -1), boxes.stale.assign(n, 0);
    boxes.partner.resize(n), boxes.place.resize(n), boxes.n = n;
    for (int64_t k = 0; k < n; ++k) {
        const double* one = corners + 4 * k;
        boxes.left[k] = one[0], boxes.top[k] = one[1], boxes.right[k] = one[2], boxes.bottom[k] = one[3];
        boxes.area[k] = clipped(one[2] - one[0]) * clipped(one[3] - one[1]);
        boxes.partner[k] = boxes.place[k] = into[k] = k;
    }
    for (int64_t k = 0; k < n; ++k) compare(boxes, k, k + 1);
    int64_t left = n;
    while (left > 1) {
        int64_t i = first_highest(boxes.bound, boxes.n);
        if (!(boxes.bound[i] > threshold)) break;
        if (boxes.stale[i]) {
            refresh(boxes, i);
            continue;
        }
        const int64_t j = boxes.partner[i];  // behind i: the first of the best is the first of its pair
        const double mine = boxes.count[i], theirs = boxes.count[j], both = mine + theirs;
        for (auto* one : {&boxes.left, &boxes.top, &boxes.right, &boxes.bottom})
            (*one)[i] = ((*one)[i] * mine + (*one)[j] * theirs) / both, (*one)[j] = 0;
        boxes.area[i] = clipped(boxes.right[i] - boxes.left[i]) * clipped(boxes.bottom[i] - boxes.top[i]);
        boxes.count[i] = both, boxes.count[j] = boxes.area[j] = 0;
        into[boxes.place[j]] = boxes.place[i];
        forget_partners(boxes, i, j);
        boxes.bound[j] = boxes.second[j] = gone, boxes.stale[j] = 0;
        if (4 * --left < 3 * boxes.n) {
            const int64_t place = boxes.place[i];
            compact(boxes);
            i = std::find(boxes.place.begin(), boxes.place.begin() + boxes.n, place) - boxes.place.begin();
        }
        refresh(boxes, i);
    }
    for (int64_t k = 0; k < boxes.n; ++k) {
        if (boxes.count[k] == 0) continue;
        double* one = corners + 4 * boxes.place[k];
        one[0] = boxes.left[k], one[1] = boxes.top[k], one[2] = boxes.right[k], one[3] = boxes.bottom[k];
    }
}

}  // namespace

extern "C" const char* verydeep_source() { return VERYDEEP_SOURCE; }

// The same; 0, or 1 where there is no memory: C has no exceptions.
extern "C" int verydeep_merge(double* corners, int64_t* into, int64_t n, double threshold) {
    try {
        merge(corners, into, n, threshold);
    } catch (...) {
        return 1;
    }
    return 0;
}
