# shellcheck shell=bash disable=SC2034
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What the scripts beside it share: sourced, never run.

cache_dir=${XDG_CACHE_HOME:-$HOME/.cache}/itsm-nexus-runbook
# The release of Debian that the hosts are of.
suite=${DRILL_SUITE:-trixie}
image_repository=localhost/itsm-nexus-runbook-host-$suite

say() {
    printf '%s: %s\n' "${0##*/}" "$*"
}

die() {
    say "$*" >&2
    exit 1
}

# The name of the image belongs to what it is made of: another list or recipe is another image.
image_name() {
    local hosts=$1 hash
    hash=$(cat "$hosts"/packages.txt "$hosts"/finish "$hosts"/build-image | sha256sum)
    printf '%s:%s' "$image_repository" "${hash:0:12}"
}

# The mirror that apt of this machine takes Debian from. Only the address comes from this machine: its other settings of apt
# have no place in the image.
mirror_of_debian() {
    local found
    # shellcheck disable=SC2016 # the fields are apt's
    found=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Origin: Debian' |
        awk '!found && $2 !~ /-/ { print $1; found = 1 }')
    [ -n "$found" ] || die "apt of this machine knows no repository of Debian"
    printf '%s' "$found"
}
