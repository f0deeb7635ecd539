#include "CTallyIntrinsics.h"

const char *tally_missing_instructions(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
#if defined(__POPCNT__)
    if (!__builtin_cpu_supports("popcnt")) return "POPCNT";
#endif
#if defined(__LZCNT__)
    if (!__builtin_cpu_supports("lzcnt")) return "LZCNT";
#endif
#if defined(__BMI__)
    if (!__builtin_cpu_supports("bmi")) return "BMI1";
#endif
#if defined(__BMI2__)
    if (!__builtin_cpu_supports("bmi2")) return "BMI2";
#endif
#endif
    return 0;
}
