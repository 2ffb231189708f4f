#!/usr/bin/env bash
# Sets up all that the workflow and its tests need: R and its packages, a virtual environment with
# the packages that requirements.lock lists, and the project itself. Does nothing the second time.
#
#   --check      do nothing at all; the status says whether there is anything to do
#   --tests      also install what single tests need, if that can be done: a browser in which the
#                report is tested, and a Slurm
#   --lint       likewise what R's code is linted with
#
#   PYTHON       the interpreter to use (default: python3, if it is at least 3.11)
#   VENV         where the environment goes (default: .venv)
#   TORCH_SPEC   another torch than the pinned one, such as torch==2.13.0+cu130 for a GPU
#   TORCH_INDEX  a package index to take torch from: PyTorch's documentation lists the one with its
#                CPU builds, which spare some gigabytes where the default index has CUDA builds
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${VENV:-.venv}
stamp=$venv/.set-up

# The R packages, by Debian's names; analysis/ says what each is for.
r_packages=(
    r-cran-ggplot2 r-cran-ragg r-cran-sandwich r-cran-svglite r-cran-testthat
)
# What rpy2 compiles against, and a plain link test that tells whether it is there.
r_build=(r-base-dev libtirpc-dev)

# What single tests, or linting, need and the study does not: a line for each, of the programs (or
# R packages, as R:NAME), their Debian packages, the services that these would start and nobody here
# needs, and what goes without.
for_tests=(
    "chromium chromedriver|chromium chromium-driver||the tests of the report's page are skipped"
    "munged slurmctld slurmd|slurm-wlm munge|munge slurmctld slurmd|the tests of a Slurm are skipped"
)
for_lint=("R:lintr|r-cran-lintr||R's code is not linted")

say() { printf '%s\n' "set-up: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_recent "$PYTHON" || fail "PYTHON=$PYTHON is not a Python of version 3.11 or newer."
        printf '%s' "$PYTHON"
        return
    fi
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$candidate" && is_recent "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    fail "this project needs Python 3.11 or newer, and $(python3 --version 2>/dev/null ||
        echo "no python3") is here. Install one, or name it: make PYTHON=/path/to/python3.11 ..."
}

# What the stamp stands for: a change of any of it sets up anew.
fingerprint() {
    printf '%s\n' "${TORCH_SPEC:-}" "${TORCH_INDEX:-}" "$PWD"
    cat requirements.txt requirements.lock pyproject.toml scripts/setup.sh
}

# Prints the Debian names of the R parts that are missing.
missing_r() {
    if ! have Rscript; then
        printf '%s\n' r-base-core "${r_build[@]}" "${r_packages[@]}"
        return
    fi
    # as the workflow starts it: the installation's start-up files, none of a user's
    R_ENVIRON_USER='' R_PROFILE_USER='' Rscript -e '
        wanted <- commandArgs(trailingOnly = TRUE)
        installed <- tolower(rownames(utils::installed.packages()))
        writeLines(wanted[!(sub("^r-cran-", "", wanted) %in% installed)])
    ' "${r_packages[@]}"
    # shellcheck disable=SC2046 # the flags are words of their own
    if ! have cc || ! echo 'int main(void) { return 0; }' |
        cc -x c - $(R CMD config --ldflags) -o /dev/null 2>/dev/null; then
        printf '%s\n' "${r_build[@]}"
    fi
}

# Prints the Debian names of the parts of Python that are missing.
missing_python() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    "$1" -c 'import os, sys, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(not os.path.exists(header))' || echo python3-dev
}

as_root=()

install_system() {
    if [ "$(id -u)" -ne 0 ]; then
        if have sudo && sudo -n true 2>/dev/null; then
            as_root=(sudo -n)
        else
            fail "these system packages are missing, and you may not install them; ask for" \
                "'apt-get install $*' and run again."
        fi
    fi
    have apt-get || fail "these are missing, and this system has no apt-get; install what they" \
        "stand for in your own way, and run again: $*"
    say "installing with apt-get: $*"
    "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 -qq update >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq \
        install --yes --no-install-recommends "$@" >&2
}

ensure_system() {
    local missing
    mapfile -t missing < <(missing_r; missing_python "$1")
    [ ${#missing[@]} -eq 0 ] && return
    install_system "${missing[@]}"
    mapfile -t missing < <(missing_r; missing_python "$1")
    [ ${#missing[@]} -eq 0 ] || fail "still missing after the installation: ${missing[*]}." \
        "If $1 or Rscript is not the system's own, install their parts in their own way."
}

# Whoever needs them does without what is not there, so its absence is no failure; the installation
# is tried once.
ensure_lines() {
    local line programs packages services what tried
    for line in "$@"; do
        IFS="|" read -r programs packages services what <<<"$line"
        read -ra programs <<<"$programs"
        read -ra packages <<<"$packages"
        tried=$venv/.without-${packages[0]}
        if have_all "${programs[@]}" || [ -f "$tried" ]; then
            continue
        fi
        read -ra services <<<"$services"
        (install_system "${packages[@]}" && stop_services "${services[@]}") || {
            say "without ${packages[*]} $what."
            touch "$tried"
        }
    done
}

# The programs of a daemon may lie where only root's path leads.
have_all() {
    local program
    for program in "$@"; do
        if [ "${program#R:}" != "$program" ]; then
            R_ENVIRON_USER='' R_PROFILE_USER='' Rscript -e \
                'quit(status = !requireNamespace(commandArgs(TRUE), quietly = TRUE))' \
                "${program#R:}" >/dev/null 2>&1 || return 1
        else
            PATH=$PATH:/usr/sbin:/sbin have "$program" || return 1
        fi
    done
}

# Tests start their own; the packages' services would run for nothing from now on.
stop_services() {
    if [ $# -eq 0 ] || [ ! -d /run/systemd/system ]; then
        return
    fi
    "${as_root[@]}" systemctl disable --now --quiet "$@" ||
        say "these services could not be stopped: $*. The tests do not need them."
}

ensure_venv() {
    if [ ! -x "$venv/bin/python" ] || ! is_recent "$venv/bin/python"; then
        say "creating $venv with $("$1" --version)"
        "$1" -m venv --clear "$venv"
    fi
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet install)
    local locked=(--require-hashes --no-deps --no-build-isolation --requirement)
    say "installing the packages that requirements.lock lists"
    # First what builds those that come as sources: in isolation pip would fetch it anew, unchecked.
    {
        "${pip[@]}" "${locked[@]}" \
            <(sed -nE '/^(cffi|pycparser|setuptools)==/,/[^\\]$/p' requirements.lock) &&
            "${pip[@]}" "${locked[@]}" requirements.lock
    } || fail "pip could not install what requirements.lock lists, and says why above. A file that" \
        "does not match its hash is not the one that was locked: do not use it. 'make lock' writes" \
        "the lock anew after a change of requirements.txt."
    # Then torch, which finds all but CUDA there: pip does not check what is installed already.
    local torch
    torch=${TORCH_SPEC:-$(sed -n 's/^\(torch==[^ #]*\).*/\1/p' requirements.txt)}
    say "installing $torch"
    "${pip[@]}" ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$torch"
    "${pip[@]}" --no-deps --no-build-isolation --editable .
}

ensure_study() {
    if [ -f "$stamp" ] && fingerprint | cmp -s - "$stamp" && have Rscript; then
        return
    fi
    [ "${1:-}" != --check ] || fail "$venv is not set up for this state of the project."
    local started=$SECONDS python
    python=$(find_python)
    ensure_system "$python"
    rm -f "$stamp" "$venv"/.without-*
    ensure_venv "$python"
    fingerprint >"$stamp.part"
    mv "$stamp.part" "$stamp"
    say "done in $((SECONDS - started)) s"
}

case "${1:-}" in
    "" | --check) ensure_study "$@" ;;
    --tests)
        ensure_study
        ensure_lines "${for_tests[@]}"
        ;;
    --lint)
        ensure_study
        ensure_lines "${for_lint[@]}"
        ;;
    *) fail "$1 is none of --check, --tests and --lint" ;;
esac
