# What the parts of the benchmark share: commands as the user, clocks, ready services, memory, tables.
package Bench;
use strict;
use warnings;
use Exporter 'import';
use Socket;
use POSIX ();
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC sleep);
our @EXPORT = qw($HOME $UID now user user_out quietly timed median note notes row bar heading bars_done wait_port wait_redis wait_postgres ask_redis memory);

our ($UID, $HOME) = (1000, '/home/alice');
my $GROUP = '/sys/fs/cgroup/user.slice/user-1000.slice/testbed.scope';
# Where a login would put the user's commands; once, since a move takes milliseconds.
mkdir $GROUP;
open(my $procs, '>', "$GROUP/cgroup.procs") or die "cgroup: $!";
print $procs $$;
close $procs or die "cgroup: $!";

sub now { return clock_gettime(CLOCK_MONOTONIC) }

# Becomes the user.
sub become {
    $) = "$UID $UID";
    POSIX::setgid($UID);
    POSIX::setuid($UID) or die "setuid: $!";
    %ENV = (HOME => $HOME, USER => 'alice', LOGNAME => 'alice', PATH => '/usr/local/bin:/usr/bin:/bin', LANG => 'C.UTF-8',
        XDG_RUNTIME_DIR => "/run/user/$UID", DBUS_SESSION_BUS_ADDRESS => "unix:path=/run/user/$UID/bus");
    chdir $HOME;
}

# Starts a command of the user; returns its pid. Its output goes to a log that is shown when it fails.
sub start_user {
    my (@command) = @_;
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    become();
    open STDIN, '<', '/dev/null';
    open STDOUT, '>', '/tmp/bench.log';
    open STDERR, '>&', \*STDOUT;
    exec @command or POSIX::_exit(127);
}

sub finish {
    my ($pid, @command) = @_;
    waitpid $pid, 0;
    return if $? == 0;
    open(my $log, '<', '/tmp/bench.log');
    die "failed ($?): @command\n", <$log>;
}

sub user { my @command = @_; finish(start_user(@command), @command) }
sub quietly { my @command = @_; waitpid start_user(@command), 0; return $? == 0 }

sub user_out {
    my (@command) = @_;
    pipe(my $read, my $write);
    my $pid = fork // die "fork: $!";
    if (!$pid) { become(); open STDOUT, '>&', $write; close $read; exec @command or POSIX::_exit(127) }
    close $write;
    local $/;
    my $text = <$read> // '';
    waitpid $pid, 0;
    chomp $text;
    return $text;
}

# Milliseconds that a command of the user takes; with a check, until both have ended well.
sub timed {
    my ($check, @command) = @_;
    my $begin = now();
    my $pid = start_user(@command);
    $check->() if $check;
    finish($pid, @command);
    return 1000 * (now() - $begin);
}

# --- readiness: the first answer to a query, looked for all the time --------------------------------------------------------

sub dial {
    my ($port) = @_;
    socket(my $socket, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
    setsockopt($socket, SOL_SOCKET, SO_RCVTIMEO, pack('l!l!', 5, 0));
    setsockopt($socket, Socket::IPPROTO_TCP(), Socket::TCP_NODELAY(), pack('i', 1));
    return connect($socket, pack_sockaddr_in($port, INADDR_LOOPBACK)) ? $socket : undef;
}

sub until_true {
    my ($what, $check) = @_;
    my $end = now() + 60;
    until ($check->()) {
        die "$what did not become ready\n" if now() > $end;
        sleep 0.0005;
    }
}

sub ask_redis {
    my ($port) = @_;
    my $socket = dial($port) or return 0;
    syswrite $socket, "PING\r\n";
    my $answer = '';
    return (sysread($socket, $answer, 64) // 0) > 0 && $answer =~ /^\+PONG/;
}

sub wait_redis { my ($port) = @_; until_true("redis at $port", sub { ask_redis($port) }) }

# Start-up packet and `select 1` of the protocol, version 3; the server trusts us.
sub ask_postgres {
    my ($port) = @_;
    my $socket = dial($port) or return 0;
    my $startup = pack('N', 196608) . "user\0postgres\0database\0postgres\0\0";
    syswrite $socket, pack('N', 4 + length $startup) . $startup . 'Q' . pack('N', 4 + 9) . "select 1\0";
    my ($all, $answer) = ('', '');
    while ((sysread($socket, $answer, 4096) // 0) > 0) {
        $all .= $answer;
        return 0 if $all =~ /^E/;
        # A row of one column, `1`, and the end of the command.
        return 1 if $all =~ /D\0\0\0\x0b\0\x01\0\0\0\x011C/;
    }
    return 0;
}

sub wait_postgres { my ($port) = @_; until_true("postgres at $port", sub { ask_postgres($port) }) }
sub wait_port { my ($kind, $port) = @_; return $kind eq 'redis' ? wait_redis($port) : wait_postgres($port) }

# --- memory ----------------------------------------------------------------------------------------------------------------

# KiB of proportional set size of the processes that steading or podman keeps for the user beside the services themselves, by program.
sub memory {
    my ($whose, @services) = @_;
    my (%own) = map { $_ => 1 } @services, qw(systemd systemd-executor dbus-daemon);
    my (%sum, $total);
    for my $directory (glob '/proc/[0-9]*') {
        next unless is_users("$directory/status");
        my $program = readlink("$directory/exe") // next;
        $program =~ s{ \(deleted\)$}{};
        $program =~ s{.*/}{};
        next if $own{$program} || ($whose eq 'steading' ? 1 : 0) != in_slice("$directory/cgroup");
        open(my $file, '<', "$directory/smaps_rollup") or next;
        while (my $line = <$file>) { if ($line =~ /^Pss:\s+(\d+)/) { $sum{name_of($directory, $program)} += $1; $total += $1 } }
    }
    die "no process of $whose was found\n" if !$total;
    return ($total, \%sum);
}

# Whether it runs as the user or as one of the user's range.
sub is_users {
    open(my $file, '<', $_[0]) or return 0;
    while (my $line = <$file>) { return ($1 == $UID || ($1 >= 100000 && $1 < 165536)) if $line =~ /^Uid:\s+(\d+)/ }
    return 0;
}

sub in_slice {
    open(my $file, '<', $_[0]) or return 0;
    # One line for each hierarchy.
    return (grep { m{/steading\.slice/} } <$file>) ? 1 : 0;
}

# `steading` is the supervisor or the yard.
sub name_of {
    my ($directory, $program) = @_;
    return $program if $program ne 'steading';
    open(my $file, '<', "$directory/cmdline") or return $program;
    my $line = <$file> // '';
    return $line =~ /\0yard/ ? 'yard' : 'supervisor';
}

# --- tables ----------------------------------------------------------------------------------------------------------------

my (%values, @bars);
sub note { my ($name, $value) = @_; push @{$values{$name}}, $value; return $value }
sub notes { return @{$values{$_[0]} // []} }

sub median {
    my @sorted = sort { $a <=> $b } @_ or return;
    return @sorted % 2 ? $sorted[@sorted / 2] : ($sorted[@sorted / 2 - 1] + $sorted[@sorted / 2]) / 2;
}

sub heading { printf "\n%-52s %9s %9s %9s %5s\n", $_[0], 'min', 'median', 'max', 'n' }

sub row {
    my ($name) = @_;
    my @all = sort { $a <=> $b } notes($name);
    if (!@all) { printf "%-52s %9s\n", $name, '-'; return }
    printf "%-52s %9.1f %9.1f %9.1f %5d\n", $name, $all[0], median(@all), $all[-1], scalar @all;
}

# A bar: the value and the most it may be; undefined when it could not be measured.
sub bar {
    my ($name, $value, $most, $unit) = @_;
    if (!defined $value || !defined $most) { push @bars, sprintf "%-8s %s", 'no row', $name; return }
    push @bars, sprintf "%-8s %-66s %9.2f, at most %9.2f %s (%+.0f %%)", $value <= $most ? 'met' : 'MISSED', $name, $value, $most, $unit,
        $most ? 100 * ($value / $most - 1) : 0;
}

sub bars_done { print "\nbars\n", map { "$_\n" } @bars }

1;
