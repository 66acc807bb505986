# The benchmark itself, as root inside the machine: prepares what is compared, measures in turns, prints.
use strict;
use warnings;
use Bench;
use POSIX ();
$| = 1;
my ($rounds, @parts) = @ARGV;
my %part = map { $_ => 1 } @parts;
my $registry = '127.0.0.1:5000/library';
my $place = "$HOME/bench";
my $crowd = $ENV{CROWD} // 100;

sub write_file {
    my ($path, $text) = @_;
    open(my $file, '>', $path) or die "$path: $!";
    print $file $text;
    close $file or die "$path: $!";
    chown $UID, $UID, $path;
}

# One of each in turn, so that whatever else the machine does meets all of them.
sub in_turn {
    my ($count, @contests) = @_;
    for (1 .. $count) { note($_->[0], $_->[1]->()) for @contests }
}

sub has_verb { return quietly('steading', $_[0], '--help') }

# --- preparation -----------------------------------------------------------------------------------------------------------

my ($model) = map { /^model name\s*:\s*(.*)/ ? $1 : () } do { open my $f, '<', '/proc/cpuinfo'; <$f> };
my $kernel = (POSIX::uname())[2];
my ($load) = do { open my $f, '<', '/proc/loadavg'; <$f> } =~ /^(\S+)/;
my $cpus = () = do { open my $f, '<', '/proc/cpuinfo'; join '', <$f> } =~ /^processor/mg;
printf "%s, kernel %s, %d x %s, load %s, %d rounds\n", POSIX::strftime('%F', gmtime), $kernel, $cpus, $model // 'CPU', $load, $rounds;
printf "%s; %s; %s; %s; %s\n", map { (split /\n/, user_out(@$_))[0] // '?' } ['steading', '--version'], ['podman', '--version'], ['crun', '--version'],
    ['bwrap', '--version'], ['systemctl', '--version'];

# Podman's units wait for it, for 90 s where it never comes.
system('systemctl', 'start', 'network-online.target') == 0 or die 'network-online.target';
user('mkdir', '-p', $place, "$HOME/.config/steading", "$HOME/.config/containers/systemd");
write_file("$HOME/.config/steading/config.toml", "[registry.\"docker.io\"]\nmirrors = [\"http://127.0.0.1:5000\"]\n");
# The testbed has no pids controller, without which podman's own limit is an error.
write_file("$HOME/.config/containers/containers.conf", "[containers]\npids_limit = 0\n");
user('podman', 'pull', '--quiet', '--tls-verify=false', "$registry/$_") for qw(busybox:1 redis:7 postgres:14);
for my $name (qw(busybox redis postgres)) {
    my $tag = {busybox => 1, redis => 7, postgres => 14}->{$name};
    user('sh', '-ec', "mkdir -p $place/$name/rootfs; id=\$(podman create $registry/$name:$tag true); podman export \$id | tar -x -C $place/$name/rootfs; podman rm \$id");
}

sub service { my ($name, $recipe, $port, @rest) = @_; user('steading', 'install', $recipe, '--name', $name, '--port', $port, @rest) }
sub unit { my ($verb, @names) = @_; return ('systemctl', '--user', $verb, @names) }

sub quadlet {
    my ($name, $image, $network, $port, $inside, $more) = @_;
    my $net = $network eq 'host' ? 'Network=host' : "PublishPort=127.0.0.1:$port:$inside";
    write_file("$HOME/.config/containers/systemd/$name.container",
        "[Container]\nImage=$registry/$image\nPull=never\nContainerName=$name\n$net\n$more\n[Service]\nTimeoutStartSec=120\n");
}

# --- run -------------------------------------------------------------------------------------------------------------------

if ($part{run}) {
    # The bundle that crun runs: steading's own where it writes one, which has all of its isolation; else crun's default.
    my $bundle = "$place/busybox";
    user('sh', '-ec', "cd $bundle && crun spec --rootless && sed -i -e 's/\"terminal\": true/\"terminal\": false/' -e 's/\"sh\"/\"true\"/' config.json");
    my $bundled = has_verb('run') && quietly('steading', 'run', '--image', 'docker.io/library/busybox:1', '--bundle', "$place/own", '--', 'true')
        && -e "$place/own/config.json";
    $bundle = "$place/own" if $bundled;
    my $plain = "$place/busybox/rootfs";
    my @contests = (
        ['crun run', sub { timed(undef, 'crun', 'run', '--bundle', $bundle, "bench$$") }],
        ['bwrap --unshare-all', sub { timed(undef, 'bwrap', '--unshare-all', '--bind', $plain, '/', '--proc', '/proc', '--dev', '/dev', 'true') }],
        ['podman run --rm --network=host', sub { timed(undef, 'podman', 'run', '--rm', '--network=host', "$registry/busybox:1", 'true') }],
        ['podman run --rm (pasta)', sub { timed(undef, 'podman', 'run', '--rm', "$registry/busybox:1", 'true') }],
    );
    my $own = 'steading run --image';
    # A service keeps the yard up.
    service('keeper', 'redis@7', 'redis=127.0.0.1:21000');
    if (has_verb('run')) {
        my @command = ('steading', 'run', '--image', 'docker.io/library/busybox:1', '--', 'true');
        user(@command);
        unshift @contests, [$own, sub { timed(undef, @command) }];
    }
    unshift @contests, ['true (fork and exec alone)', sub { timed(undef, 'true') }];
    in_turn($rounds, @contests);
    heading('run true, ms' . ($bundled ? '; crun runs the bundle that steading wrote' : '; crun runs the bundle of `crun spec`'));
    row($_) for 'true (fork and exec alone)', $own, 'crun run', 'bwrap --unshare-all', 'podman run --rm --network=host', 'podman run --rm (pasta)';
    my $value = median(notes($own));
    bar('run: no slower than crun', $value, median(notes('crun run')), 'ms');
    bar('run: 1.5 times bwrap', $value, 1.5 * median(notes('bwrap --unshare-all')), 'ms');
    bar('run: a tenth of podman with the host network', $value, median(notes('podman run --rm --network=host')) / 10, 'ms');
    user('steading', 'remove', '--purge', 'keeper');
}

# --- exec ------------------------------------------------------------------------------------------------------------------

if ($part{exec}) {
    service('target', 'redis@7', 'redis=127.0.0.1:21001');
    user('podman', 'run', '--detach', '--name', 'target', '--network=host', "$registry/redis:7", 'redis-server', '--port', '21002');
    in_turn($rounds, ['steading exec', sub { timed(undef, 'steading', 'exec', 'target', '--', 'true') }],
        ['podman exec', sub { timed(undef, 'podman', 'exec', 'target', 'true') }]);
    heading('exec true in a running service, ms');
    row($_) for 'steading exec', 'podman exec';
    bar('exec: a twentieth of podman', median(notes('steading exec')), median(notes('podman exec')) / 20, 'ms');
    user('podman', 'rm', '--force', 'target');
    user('steading', 'remove', '--purge', 'target');
}

# --- start, stop, restart with existing data -------------------------------------------------------------------------------

sub bare {
    my ($kind, $data, $inside, @command) = @_;
    my $root = "$place/$kind/rootfs";
    my $environment = $kind eq 'redis' ? {} : {PGDATA => $inside};
    for ([$data, $inside], ['/proc', '/proc'], ['/dev', '/dev']) {
        system('mkdir', '-p', "$root$_->[1]");
        system('mount', '--rbind', $_->[0], "$root$_->[1]") == 0 or die 'mount';
    }
    system("mkdir -p $root/tmp $root/run/postgresql $root/var/run; chmod 1777 $root/tmp; chown -h $UID:$UID $root/run/postgresql; ln -sfn /run $root/var/run 2>/dev/null");
    my $pid;
    my $start = sub {
        $pid = fork // die "fork: $!";
        return if $pid;
        chroot $root or die "chroot: $!";
        chdir($kind eq 'redis' ? $inside : '/');
        $) = "$UID $UID";
        POSIX::setgid($UID);
        POSIX::setuid($UID);
        %ENV = (PATH => '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/14/bin', HOME => '/', %$environment);
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', '/dev/null';
        open STDERR, '>&', \*STDOUT;
        exec @command or POSIX::_exit(127);
    };
    my $stop = sub { my $begin = now(); kill($kind eq 'redis' ? 'TERM' : 'INT', $pid); waitpid $pid, 0; return 1000 * (now() - $begin) };
    return ($start, $stop);
}

# Until it is idle, at no fixed point of its timers: redis looks at its stop signal ten times a second.
sub settle { Time::HiRes::sleep(0.2 + rand 0.2) }

sub contest {
    my ($kind, $recipe, $image, $inside, @command) = @_;
    my %port = (steading => 21010, bare => $kind eq 'redis' ? 6379 : 5432, host => 21011, pasta => 21012);
    my ($container_port, $wait) = ($kind eq 'redis' ? 6379 : 5432, sub { wait_port($kind, $_[0]) });
    service("s$kind", $recipe, ($kind eq 'redis' ? 'redis' : 'db') . "=127.0.0.1:$port{steading}");
    my $data = "$HOME/.local/share/steading/services/s$kind/data/data";
    if ($kind eq 'postgres') {
        # The benchmark's client has no password; nobody else is on this machine.
        system('sed', '-i', 's/scram-sha-256/trust/', "$data/pg_hba.conf") == 0 or die 'pg_hba.conf';
        user(unit('restart', "s$kind"));
    }
    $wait->($port{steading});
    user(unit('stop', "s$kind"));
    # Each its own copy of the same data.
    my $more = $kind eq 'redis' ? '' : "Environment=POSTGRES_HOST_AUTH_METHOD=trust PGDATA=$inside\n";
    for my $network ('host', 'pasta') {
        system('cp', '-a', $data, "$place/$kind-$network") == 0 or die 'cp';
        my $arguments = $network eq 'host' ? ($kind eq 'redis' ? "Exec=redis-server --port $port{host}" : "Exec=postgres -p $port{host}") : '';
        quadlet("p$kind-$network", $image, $network, $port{$network}, $container_port, "Volume=$place/$kind-$network:$inside\nUserNS=keep-id:uid=999,gid=999\nUser=999\n$more$arguments");
    }
    user(unit('daemon-reload'));
    system('cp', '-a', $data, "$place/$kind-bare") == 0 or die 'cp';
    my ($start, $stop) = bare($kind, "$place/$kind-bare", $inside, @command);
    my $count = $rounds < 10 ? $rounds : 10;
    # What a unit costs of which systemd knows all and the program does nothing.
    write_file("$HOME/.config/systemd/user/floor.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n");
    user(unit('daemon-reload'));
    for my $round (1 .. $rounds) {
        my $begin = now();
        $start->();
        $wait->($port{bare});
        note("$kind start: bare", 1000 * (now() - $begin));
        settle();
        note("$kind stop: bare", $stop->());
        $start->();
        $wait->($port{bare});
        settle();
        $begin = now();
        $stop->();
        $start->();
        $wait->($port{bare});
        note("$kind restart: bare", 1000 * (now() - $begin));
        $stop->();
        note("$kind start: systemd alone, a unit of true", timed(undef, unit('start', 'floor')));
        note("$kind stop: systemd alone, a unit of true", timed(undef, unit('stop', 'floor')));
        my @units = (['steading', "s$kind", $port{steading}]);
        push @units, ['podman, host network', "p$kind-host", $port{host}], ['podman, pasta', "p$kind-pasta", $port{pasta}] if $round <= $count;
        for my $contestant (@units) {
            my ($name, $unit, $port) = @$contestant;
            note("$kind start: $name", timed(sub { $wait->($port) }, unit('start', $unit)));
            settle();
            # An answer may come from the old one until it has been stopped.
            note("$kind restart: $name", timed(undef, unit('restart', $unit)) + do { my $begin = now(); $wait->($port); 1000 * (now() - $begin) });
            settle();
            note("$kind stop: $name", timed(undef, unit('stop', $unit)));
        }
    }
    heading("$kind with existing data: until the job is done and a query was answered, ms");
    for my $verb (qw(start stop restart)) { row("$kind $verb: $_") for 'bare', 'systemd alone, a unit of true', 'steading', 'podman, host network', 'podman, pasta' }
    my %beyond = (start => 40, stop => 20, restart => 20);
    bar("$kind $_: $beyond{$_} ms beyond bare", median(notes("$kind $_: steading")) - median(notes("$kind $_: bare")), $beyond{$_}, 'ms') for qw(start stop restart);
    user('steading', 'remove', '--purge', "s$kind");
    unlink glob("$HOME/.config/containers/systemd/p$kind-*");
    user(unit('daemon-reload'));
}

if ($part{start}) {
    # A second service keeps the yard up, as any does on a machine that is in use.
    service('keeper', 'redis@7', 'redis=127.0.0.1:21000');
    contest('redis', 'redis@7', 'redis:7', '/data', 'docker-entrypoint.sh', 'redis-server', '--unixsocket', '/tmp/redis.sock');
    contest('postgres', 'postgres@14', 'postgres:14', '/var/lib/postgresql/data', 'docker-entrypoint.sh', 'postgres');
    user('steading', 'remove', '--purge', 'keeper');
}

# --- memory and crowd ------------------------------------------------------------------------------------------------------

sub per_program { my ($sum) = @_; return join ', ', map { sprintf '%s %.0f', $_, $sum->{$_} } sort { $sum->{$b} <=> $sum->{$a} } keys %$sum }

# Starts `units` in one job; until all answer. Prints time and memory; returns them.
sub crowd {
    my ($name, $count, @units) = @_;
    my $begin = now();
    my $milliseconds = timed(sub { wait_redis(22000 + $_) for 1 .. $count }, unit('start', map { sprintf $units[0], $_ } 1 .. $count));
    Time::HiRes::sleep(3);
    # One program under three names.
    my ($total, $sum) = memory($name, qw(redis-server redis-check-rdb redis-check-aof));
    printf "%-30s %4d %10.0f ms %10.0f KiB %8.0f KiB each   %s\n", $name, $count, $milliseconds, $total, $total / $count, per_program($sum);
    user(unit('stop', map { sprintf $units[0], $_ } 1 .. $count));
    return ($milliseconds, $total, $sum);
}

if ($part{memory} || $part{crowd}) {
    my @sizes = (($part{memory} ? 30 : ()), ($part{crowd} ? $crowd : ()));
    my $most = (sort { $b <=> $a } @sizes)[0];
    printf "\n%-30s %4s %13s %14s %17s   %s\n", 'redis services at once', 'n', 'all answer', 'PSS beside', '', 'of it, KiB';
    service("c$_", 'redis@7', 'redis=127.0.0.1:' . (22000 + $_), '--no-start') for 1 .. $most;
    for my $count (@sizes) {
        my ($time, $total, $sum) = crowd('steading', $count, 'c%d');
        my $yard = $sum->{yard} // 0;
        bar("memory of $count: each", ($total - $yard) / $count / 1024, 0.5, 'MiB');
        bar("memory of $count: yard", $yard / 1024, 4, 'MiB');
    }
    user('steading', 'remove', '--purge', "c$_") for 1 .. $most;
    for my $network ('host', 'pasta') {
        for (1 .. $most) {
            quadlet("q$_", 'redis:7', $network, 22000 + $_, 6379, 'Exec=redis-server' . ($network eq 'host' ? ' --port ' . (22000 + $_) : ''));
        }
        user(unit('daemon-reload'));
        crowd($network eq 'host' ? 'podman, host network' : 'podman, pasta', $_, 'q%d') for @sizes;
        unlink glob("$HOME/.config/containers/systemd/q*");
        user(unit('daemon-reload'));
    }
}

bars_done();
