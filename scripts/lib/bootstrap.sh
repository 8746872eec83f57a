# shellcheck shell=bash
# Sourced by the scripts that create what they need: interpreter, Debian packages, virtual environments.
# Every function is a no-op, in well under a second, when its work is already done.

REPO_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
# A checkout must not be littered with the caller's settings, and pip must not nag.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONNOUSERSITE=1

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# run_logged LOG COMMAND...: runs quietly with a sign of life every 15 s; shows the log's end on failure.
run_logged() {
    local log=$1 started=$SECONDS
    shift
    "$@" >"$log" 2>&1 </dev/null &
    local pid=$! next=15
    # The command must not outlive an interrupted script.
    trap 'kill "$pid" 2>/dev/null || true' EXIT
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        if ((SECONDS - started >= next)); then
            printf '    still running (%d s), log: %s\n' "$((SECONDS - started))" "$log" >&2
            next=$((next + 15))
        fi
    done
    trap - EXIT
    if ! wait "$pid"; then
        tail -n 25 "$log" | sed 's/^/    | /' >&2
        return 1
    fi
    printf '    done in %d s\n' "$((SECONDS - started))" >&2
}

_python_is_usable() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

# ensure_python: sets PYTHON to an interpreter of 3.11 to 3.13 that can make virtual environments.
# HFX_PYTHON names one explicitly.
ensure_python() {
    local candidate
    PYTHON=""
    for candidate in ${HFX_PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if _python_is_usable "$candidate"; then
            PYTHON=$(command -v "$candidate")
            break
        fi
    done
    [[ -n $PYTHON ]] || die "no Python 3.11, 3.12 or 3.13 found (tried: ${HFX_PYTHON:-python3 python3.13 python3.12 python3.11}).
Install one (Debian 12: apt-get install python3 python3-venv) or set HFX_PYTHON=/path/to/python3."
    if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        ensure_apt_packages "python$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    fi
}

# ensure_apt_packages NAME...: installs the missing ones when root, otherwise says exactly what to do.
ensure_apt_packages() {
    local name missing=()
    command -v dpkg-query >/dev/null || die "these libraries are needed: $* (Debian's names; this is not a Debian system, install them with its package manager)"
    for name in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        die "missing Debian packages: ${missing[*]}. Run:
    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
    fi
    say "installing Debian packages: ${missing[*]}"
    local log
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    if [[ -z ${_APT_UPDATED:-} ]]; then
        run_logged "$log" apt-get update -q || die "apt-get update failed"
        _APT_UPDATED=1
    fi
    run_logged "$log" apt-get install -q -y --no-install-recommends "${missing[@]}" ||
        die "apt-get could not install: ${missing[*]}"
    rm -f "$log"
}

# ensure_mooncake_libraries: shared libraries that Mooncake's wheel links against but does not carry.
ensure_mooncake_libraries() {
    local missing
    missing=$("$PYTHON" - <<'PY'
import ctypes

PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "libibverbs.so.1": "libibverbs1",
    "libnuma.so.1": "libnuma1",
    "libstdc++.so.6": "libstdc++6",
}
for library, package in PACKAGES.items():
    try:
        ctypes.CDLL(library)
    except OSError:
        print(package)
PY
    )
    # shellcheck disable=SC2086  # one word for each package
    [[ -z $missing ]] || ensure_apt_packages $missing
}

# _install_cpu_torch PYTHON: the torch that the extra cpu pins, before anything else asks for one: on x86-64
# a resolver would take PyPI's wheel, which carries CUDA. Refuses where another extra's Mooncake is.
_install_cpu_torch() {
    local python=$1 venv other torch
    venv=$(dirname "$(dirname "$python")")
    other=$("$python" - <<'PY'
from importlib.metadata import distributions

FAMILY, OURS = "mooncake-transfer-engine", "mooncake-transfer-engine-non-cuda"
names = {(d.metadata["Name"] or "").lower().replace("_", "-") for d in distributions()}
print(*sorted(n for n in names if n.startswith(FAMILY) and n != OURS))
PY
    )
    [[ -z $other ]] || die "$venv holds $other, and all Mooncake wheels share their files: the extras cpu, cuda and npu exclude each other.
Use another environment for this (HFX_VENV=/path/to/venv), or remove that one."
    torch=$("$python" - "$REPO_ROOT/pyproject.toml" <<'PY'
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    extra = tomllib.load(file)["project"]["optional-dependencies"]["cpu"]
print(next(requirement for requirement in extra if requirement.startswith("torch==")))
PY
    )
    say "installing $torch (0.2 GB for a CPU build)"
    run_logged "$venv/pip.log" "$python" -m pip install --no-input \
        ${HFX_TORCH_INDEX_URL:+--index-url "$HFX_TORCH_INDEX_URL"} "$torch" ||
        die "could not install $torch into $venv (is PyPI reachable?)"
}

# ensure_compiler: a C compiler and Python's headers, for scripts/compile.
ensure_compiler() {
    local packages=() headers version
    command -v cc >/dev/null || packages+=(gcc libc6-dev)
    headers=$("$VENV_PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    if [[ ! -e $headers/Python.h ]]; then
        version=$("$VENV_PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        [[ $headers == /usr/include/* ]] ||
            die "Python's headers are missing: $headers/Python.h (they belong to this interpreter's own installation)"
        packages+=("python$version-dev")
    fi
    ((!${#packages[@]})) || ensure_apt_packages "${packages[@]}"
}

# ensure_router_venv [--with-cpu-extra] [PIP ARGUMENT...]: sets VENV_PYTHON to the interpreter of an
# environment with this project installed in place; arguments go to pip (for example: --group dev).
# --with-cpu-extra adds torch and Mooncake for a CPU. HFX_VENV names the folder, default .venv in the checkout.
ensure_router_venv() {
    local venv=${HFX_VENV:-$REPO_ROOT/.venv} project_hash stamp extra=""
    VENV_PYTHON=$venv/bin/python
    project_hash=$(sha256sum <"$REPO_ROOT/pyproject.toml" | cut -c1-16)
    stamp=$venv/.hfx-ready-$project_hash-$(printf '%s\0' "$REPO_ROOT" "$@" | sha256sum | cut -c1-16)
    [[ -e $stamp && -x $VENV_PYTHON ]] && return 0
    if [[ ${1:-} == --with-cpu-extra ]]; then
        extra="[cpu]"
        shift
    fi
    ensure_python
    # A folder without pip is what an interrupted creation leaves behind.
    if ! "$VENV_PYTHON" -m pip --version >/dev/null 2>&1; then
        say "creating the router's environment in $venv ($("$PYTHON" --version))"
        "$PYTHON" -m venv --clear "$venv" || die "could not create $venv"
    fi
    if [[ -n $extra ]]; then
        ensure_mooncake_libraries
        _install_cpu_torch "$VENV_PYTHON"
    fi
    say "installing hfx-sgl$extra${*:+ ($*)}"
    # --group needs pip 25.1, and Python 3.11 still bundles pip 23.
    run_logged "$venv/pip.log" "$VENV_PYTHON" -m pip install --upgrade 'pip>=25.1' ||
        die "could not upgrade pip in $venv (is PyPI reachable?)"
    (cd "$REPO_ROOT" && run_logged "$venv/pip.log" "$VENV_PYTHON" -m pip install --editable ".$extra" "$@") ||
        die "could not install hfx-sgl into $venv (is PyPI reachable?)"
    find "$venv" -maxdepth 1 -name '.hfx-ready-*' ! -name ".hfx-ready-$project_hash-*" -delete
    touch "$stamp"
}
