# Makes the environment that the course runs in, and installs what requirements.txt lists.
#
#     source setup.sh      leaves the environment active (bash, zsh, Git Bash on Windows)
#     bash setup.sh        only makes it
#
# With conda on the PATH it is a conda environment named llm-from-scratch, else a virtual environment
# in .venv. Run again it changes nothing. To undo it: rm -r .venv, or conda env remove -n llm-from-scratch

_llm_setup() {
    local here name=llm-from-scratch prefix python candidate stamp log
    if [ -n "${BASH_VERSION:-}" ]; then here=${BASH_SOURCE[0]}; else eval 'here=${(%):-%x}'; fi
    here=$(CDPATH='' cd -- "$(dirname -- "$here")" && pwd) || return 1
    log=$here/.setup.log

    if command -v conda >/dev/null 2>&1; then
        if [ -n "${BASH_VERSION:-}" ]; then eval "$(conda shell.bash hook 2>"$log")"; else eval "$(conda shell.zsh hook 2>"$log")"; fi
        if ! conda activate "$name" 2>>"$log"; then
            echo "setup.sh: making the conda environment $name"
            if ! conda create -q -y -n "$name" python=3.11 >>"$log" 2>&1 || ! conda activate "$name" 2>>"$log"; then
                echo "setup.sh: conda can't make the environment $name: connect to the network and run it again (see .setup.log)" >&2
                return 1
            fi
        fi
        prefix=$CONDA_PREFIX
    else
        # an environment does not survive a move of its folder: one that was made elsewhere is made again
        if [ "$(cat "$here/.venv/complete" 2>/dev/null)" != "$here" ] || ! "$here/.venv/bin/python" -c '' 2>/dev/null && ! "$here/.venv/Scripts/python.exe" -c '' 2>/dev/null; then
            for candidate in python3 python python3.14 python3.13 python3.12 python3.11 py ''; do
                if [ -z "$candidate" ]; then
                    echo "setup.sh: no Python of version 3.11 or newer is on the PATH: install one from python.org and run it again" >&2
                    return 1
                fi
                "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && break
            done
            echo "setup.sh: making a virtual environment in .venv with $("$candidate" --version)"
            [ ! -L "$here/.venv" ] || rm "$here/.venv" # a link: what it leads to belongs to another folder
            if ! "$candidate" -m venv --clear "$here/.venv" >"$log" 2>&1; then
                echo "setup.sh: $candidate can't make a virtual environment: install its venv module (on Debian: apt install python3-venv), then run it again" >&2
                return 1
            fi
            echo "$here" >"$here/.venv/complete"
        fi
        prefix=$here/.venv
        if [ -e "$prefix/Scripts/activate" ]; then . "$prefix/Scripts/activate"; else . "$prefix/bin/activate"; fi
    fi

    # by its path, since `python` may be an alias
    for python in "$prefix/bin/python" "$prefix/python.exe" "$prefix/Scripts/python.exe"; do [ -x "$python" ] && break; done
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "setup.sh: the environment in $prefix has a Python older than 3.11: remove it and run setup.sh again" >&2
        return 1
    fi
    stamp=$prefix/llm-from-scratch-requirements.txt
    if ! cmp -s "$here/requirements.txt" "$stamp"; then
        echo "setup.sh: installing the packages of requirements.txt (a few minutes the first time)"
        if ! "$python" -m pip install --retries 1 --disable-pip-version-check -r "$here/requirements.txt" 2>"$log"; then
            echo "setup.sh: pip can't install the packages: connect to the network and run it again (its words are in .setup.log)" >&2
            return 1
        fi
        cp "$here/requirements.txt" "$stamp"
    fi
    rm -f "$log"
    echo "setup.sh: ready, $("$python" --version) in $prefix"
}

_llm_status=0
_llm_setup || _llm_status=$?
unset -f _llm_setup
# a sourced file can `return`, which leaves the user's shell alone; one that is run can't, and ends here
return "$_llm_status" 2>/dev/null || exit "$_llm_status"
